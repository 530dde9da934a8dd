// fetch() over TLS with our own roots and, where given, a client certificate: what a workload does with its SVID. Node's
// own fetch cannot be told either without another package.
import fs from "node:fs";
import http from "node:http";
import https from "node:https";

// `identity`: {certificate, key}, file names of PEM, or nothing.
export function tlsFetch(caFile, identity) {
  const options = { ca: fs.readFileSync(caFile) };
  if (identity) {
    options.cert = fs.readFileSync(identity.certificate);
    options.key = fs.readFileSync(identity.key);
  }
  const agent = new https.Agent({ ...options, keepAlive: false });
  return (url, init = {}) => send(https, url, { agent }, init);
}

// fetch() over a Unix socket: the workload's way to its agent.
export function unixFetch(socketPath) {
  return (url, init = {}) => send(http, url, { socketPath }, init);
}

function send(module, url, where, init) {
  return new Promise((resolve, reject) => {
    const target = new URL(url);
    const headers = Object.fromEntries(new Headers(init.headers ?? {}).entries());
    const body = init.body === undefined || init.body === null ? undefined : String(init.body);
    if (body !== undefined) headers["content-length"] = Buffer.byteLength(body);
    if (init.body instanceof URLSearchParams && !headers["content-type"]) {
      headers["content-type"] = "application/x-www-form-urlencoded;charset=UTF-8";
    }
    const request = module.request(
      { ...where, host: target.hostname, port: target.port, path: target.pathname + target.search, method: init.method ?? "GET", headers },
      (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => {
          const text = Buffer.concat(parts);
          const empty = [204, 304].includes(answer.statusCode);
          const got = new Headers();
          for (let i = 0; i < answer.rawHeaders.length; i += 2) got.append(answer.rawHeaders[i], answer.rawHeaders[i + 1]);
          resolve(new Response(empty ? null : text, { status: answer.statusCode, headers: got }));
        });
        answer.on("error", reject);
      },
    );
    request.on("error", reject);
    if (body !== undefined) request.write(body);
    request.end();
  });
}
