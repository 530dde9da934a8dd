// An MCP client by @modelcontextprotocol/sdk whose whole identity is a Unix socket: it exchanges a user's token for one that
// may call one tool, and calls two.
import fs from "node:fs";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { check, done, require } from "./checks.mjs";
import { unixFetch } from "./transport.mjs";

const resource = process.env.INTEROP_RESOURCE;
const agent = unixFetch(process.env.INTEROP_TOKEN_SOCKET);

async function ask(path, form) {
  const answer = await agent(`http://localhost${path}`, { method: "POST", body: new URLSearchParams(form) });
  const json = await answer.json();
  require(answer.status === 200, `${path}: ${answer.status} ${JSON.stringify(json)}`);
  return json;
}

const token = await check("token_for_one_tool_over_token_sock", async () => {
  const answer = await ask("/oauth2/token", {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: fs.readFileSync(process.env.INTEROP_USER_TOKEN_FILE, "utf8").trim(),
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    resource,
    authorization_details: JSON.stringify([{ type: "mcp_tool_call", locations: [resource], tools: ["query_orders"] }]),
    ...(process.env.INTEROP_TASK ? { task: process.env.INTEROP_TASK } : {}),
  });
  require(answer.token_type === "DPoP", `token_type ${answer.token_type}`);
  return answer.access_token;
});

async function withProof(url, init) {
  const { dpop } = await ask("/oauth2/dpop", { htm: "POST", htu: resource, access_token: token });
  const headers = new Headers(init.headers);
  headers.set("Authorization", `DPoP ${token}`);
  headers.set("DPoP", dpop);
  return fetch(url, { ...init, headers });
}
const client = new Client({ name: "interop", version: "1.0.0" });
await check("mcp_initialize", () => client.connect(new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${process.env.INTEROP_MCP_PORT}/`), { fetch: withProof })));
await check("mcp_tool_that_was_granted_is_called", async () => {
  const answer = await client.callTool({ name: "query_orders", arguments: {} });
  require(answer.content[0].text === "query_orders done", JSON.stringify(answer));
});
await check("mcp_tool_that_was_not_granted_is_refused", async () => {
  try {
    await client.callTool({ name: "refund_order", arguments: {} });
  } catch (error) {
    require(String(error).includes("403") || error.code === 403, `refused otherwise: ${error}`);
    return;
  }
  throw new Error("it was called");
});
done();
