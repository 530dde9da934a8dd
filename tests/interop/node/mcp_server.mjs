// An MCP server by @modelcontextprotocol/sdk that knows no key and no issuer: it asks its agent's token.sock about every
// tool call. Prints "listening PORT".
import http from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { unixFetch } from "./transport.mjs";

const resource = process.env.INTEROP_RESOURCE;
const agent = unixFetch(process.env.INTEROP_TOKEN_SOCKET);

async function introspect(token, proof, tool) {
  const answer = await agent("http://localhost/oauth2/introspect", { method: "POST",
    body: new URLSearchParams({ token, dpop: proof, htm: "POST", htu: resource, tool, ...(process.env.INTEROP_TASK ? { task: process.env.INTEROP_TASK } : {}) }) });
  return answer.json();
}

function mcp() {
  const server = new McpServer({ name: "orders", version: "1.0.0" });
  for (const tool of ["query_orders", "refund_order"]) {
    server.registerTool(tool, { description: tool }, async () => ({ content: [{ type: "text", text: `${tool} done` }] }));
  }
  return server;
}

const listener = http.createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(405).end();
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = JSON.parse(Buffer.concat(parts).toString());
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  if (scheme !== "DPoP") {
    response.setHeader("WWW-Authenticate", `DPoP resource_metadata="${resource}/.well-known/oauth-protected-resource"`);
    return response.writeHead(401).end();
  }
  if (body.method === "tools/call") {
    const claims = await introspect(token, request.headers.dpop ?? "", body.params.name);
    if (!claims.active) {
      response.setHeader("WWW-Authenticate", 'DPoP error="insufficient_scope"');
      return response.writeHead(403).end();
    }
  }
  const server = mcp();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => { transport.close(); server.close(); });
  await server.connect(transport);
  return transport.handleRequest(request, response, body);
});
listener.listen(0, "127.0.0.1", () => console.log(`listening ${listener.address().port}`));
