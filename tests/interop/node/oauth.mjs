// oauth4webapi and openid-client as clients of the token service, jose as the resource that verifies its tokens.
// The strictest reading of each RFC on the wire that npm has.
import crypto from "node:crypto";
import fs from "node:fs";
import * as jose from "jose";
import * as oauth from "oauth4webapi";
import * as openid from "openid-client";
import { check, done, refused, require } from "./checks.mjs";
import { tlsFetch } from "./transport.mjs";

const env = (name) => process.env[name] ?? (() => { throw new Error(`${name} is not set`); })();
const issuer = new URL(env("INTEROP_TOKEN_ISSUER"));
const resource = env("INTEROP_RESOURCE");
const scope = env("INTEROP_SCOPE");
const workload = { certificate: env("INTEROP_AGENT_CERT"), key: env("INTEROP_AGENT_KEY") };
const server = { certificate: env("INTEROP_SERVER_CERT"), key: env("INTEROP_SERVER_KEY") };
const ca = env("INTEROP_TOKEN_CA");
const agentId = env("INTEROP_AGENT_ID");
const serverId = env("INTEROP_SERVER_ID");
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

const anonymous = { [oauth.customFetch]: tlsFetch(ca) };
const asWorkload = { [oauth.customFetch]: tlsFetch(ca, workload) };
const asServer = { [oauth.customFetch]: tlsFetch(ca, server) };
const client = { client_id: agentId };
const resourceServer = { client_id: serverId };

const as = await check("oauth4webapi_discovery_rfc8414", async () => {
  const response = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...anonymous });
  const metadata = await oauth.processDiscoveryResponse(issuer, response);
  for (const member of ["token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint", "grant_types_supported",
    "token_endpoint_auth_methods_supported", "dpop_signing_alg_values_supported", "authorization_details_types_supported"]) {
    require(metadata[member] !== undefined, `no ${member}`);
  }
  require(!JSON.stringify(metadata).includes("client_secret"), "offers a client secret");
  return metadata;
});

const keyPair = await oauth.generateKeyPair("ES256");
const dpop = oauth.DPoP(client, keyPair);

async function clientCredentials(parameters, fetchOptions = asWorkload, auth = oauth.TlsClientAuth(), who = client, handle = dpop) {
  const response = await oauth.clientCredentialsGrantRequest(as, who, auth, new URLSearchParams(parameters), { DPoP: handle, ...fetchOptions });
  return oauth.processClientCredentialsResponse(as, who, response);
}

const own = await check("oauth4webapi_client_credentials_mtls_dpop", async () => {
  const answer = await clientCredentials({ resource, scope });
  require(answer.token_type === "dpop", `token_type ${answer.token_type}`);
  require(answer.expires_in > 0, "no expires_in");
  return answer;
});

await check("jose_verifies_the_token_rfc9068", async () => {
  const keys = jose.createLocalJWKSet(await (await anonymous[oauth.customFetch](as.jwks_uri)).json());
  const { payload } = await jose.jwtVerify(own.access_token, keys, { issuer: as.issuer, audience: resource, typ: "at+jwt" });
  require(payload.sub === agentId && payload.client_id === agentId, `sub ${payload.sub}`);
  require(payload.cnf.jkt === await jose.calculateJwkThumbprint(await jose.exportJWK(keyPair.publicKey)), "cnf.jkt is another key's");
});

await check("oauth4webapi_validates_the_token_with_its_dpop_proof", async () => {
  let request;
  const capture = async (url, init) => { request = new Request(url, init); return new Response("{}"); };
  await oauth.protectedResourceRequest(own.access_token, "GET", new URL(resource), undefined, undefined, { DPoP: dpop, [oauth.customFetch]: capture });
  const claims = await oauth.validateJwtAccessToken(as, request, resource, anonymous);
  require(claims.client_id === agentId, "another client");
});

await check("jwt_svid_assertion_spiffe_client_auth", async () => {
  const auth = (_as, _client, body) => {
    body.set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe");
    body.set("client_assertion", fs.readFileSync(env("INTEROP_JWT_SVID_FILE"), "utf8").trim());
  };
  const answer = await clientCredentials({ resource, scope }, anonymous, auth);
  require(answer.access_token, "no token");
  await clientCredentials({ resource, scope }, anonymous, auth);  // a JWT-SVID may be presented again
});

const console_key = await jose.importPKCS8(fs.readFileSync(env("INTEROP_CONSOLE_KEY"), "utf8"), "ES256");
const console_client = { client_id: env("INTEROP_CONSOLE_ID") };
await check("oauth4webapi_private_key_jwt", async () => {
  const auth = oauth.PrivateKeyJwt({ key: console_key, kid: env("INTEROP_CONSOLE_KID") });
  const handle = oauth.DPoP(console_client, keyPair);
  const answer = await clientCredentials({ resource, scope }, anonymous, auth, console_client, handle);
  require(answer.access_token, "no token");
});
await check("private_key_jwt_audience_must_be_the_issuer_alone", () => refused("invalid_client", async () => {
  const toEndpoint = { [oauth.modifyAssertion]: (_header, payload) => { payload.aud = as.token_endpoint; } };
  await clientCredentials({ resource, scope }, anonymous, oauth.PrivateKeyJwt({ key: console_key, kid: env("INTEROP_CONSOLE_KID") }, toEndpoint), console_client,
    oauth.DPoP(console_client, keyPair));
}));
await check("private_key_jwt_is_used_once", () => refused("invalid_client", async () => {
  const same = { [oauth.modifyAssertion]: (_header, payload) => { payload.jti = "the-same-one"; } };
  const auth = oauth.PrivateKeyJwt({ key: console_key, kid: env("INTEROP_CONSOLE_KID") }, same);
  for (let i = 0; i < 2; i += 1) await clientCredentials({ resource, scope }, anonymous, auth, console_client, oauth.DPoP(console_client, keyPair));
}));

const userToken = fs.readFileSync(env("INTEROP_USER_TOKEN_FILE"), "utf8").trim();
async function exchange(parameters) {
  const response = await oauth.genericTokenEndpointRequest(as, client, oauth.TlsClientAuth(), EXCHANGE, new URLSearchParams({
    subject_token: userToken, subject_token_type: ACCESS_TOKEN, resource, ...parameters }), { DPoP: dpop, ...asWorkload });
  return oauth.processGenericTokenEndpointResponse(as, client, response);
}
const delegated = await check("oauth4webapi_token_exchange_rfc8693", async () => {
  const answer = await exchange({ scope });
  require(answer.issued_token_type === ACCESS_TOKEN, `issued_token_type ${answer.issued_token_type}`);
  const claims = jose.decodeJwt(answer.access_token);
  require(claims.act?.sub === agentId, `act ${JSON.stringify(claims.act)}`);
  require(claims.sub !== agentId, "the user is gone");
  return answer;
});
await check("exchange_for_an_unknown_resource_is_invalid_target", () => refused("invalid_target", () => exchange({ resource: "https://elsewhere.example.org/" })));
await check("exchange_for_a_foreign_scope_is_invalid_scope", () => refused("invalid_scope", () => exchange({ scope: "nobody:knows" })));
await check("exchange_for_one_tool_rfc9396", async () => {
  const details = [{ type: "mcp_tool_call", locations: [resource], tools: [env("INTEROP_TOOL")] }];
  const answer = await exchange({ authorization_details: JSON.stringify(details) });
  require(answer.authorization_details?.[0]?.tools?.[0] === env("INTEROP_TOOL"), JSON.stringify(answer.authorization_details));
});

async function introspect(token, parameters) {
  const response = await oauth.introspectionRequest(as, resourceServer, oauth.TlsClientAuth(), token, { additionalParameters: new URLSearchParams(parameters), ...asServer });
  return oauth.processIntrospectionResponse(as, resourceServer, response);
}
async function presentation(token) {
  let proof;
  const capture = async (_url, init) => { proof = new Headers(init.headers).get("dpop"); return new Response("{}"); };
  await oauth.protectedResourceRequest(token, "POST", new URL(resource), undefined, undefined, { DPoP: dpop, [oauth.customFetch]: capture });
  return { dpop: proof, htm: "POST", htu: resource };
}
await check("oauth4webapi_introspection_equals_the_token_d2_4", async () => {
  const answer = await introspect(delegated.access_token, await presentation(delegated.access_token));
  require(answer.active === true, "not active");
  const claims = jose.decodeJwt(delegated.access_token);
  for (const member of ["sub", "scope", "client_id", "act", "cnf", "agent_ctx", "authorization_details"]) {
    require(JSON.stringify(answer[member]) === JSON.stringify(claims[member]), `${member} differs`);
  }
});
await check("introspection_without_the_proof_is_inactive_t4", async () => {
  const answer = await introspect(delegated.access_token, {});
  require(answer.active === false && Object.keys(answer).length === 1, JSON.stringify(answer));
});
await check("oauth4webapi_revocation_rfc7009", async () => {
  const response = await oauth.revocationRequest(as, client, oauth.TlsClientAuth(), delegated.access_token, asWorkload);
  await oauth.processRevocationResponse(response);
  const answer = await introspect(delegated.access_token, await presentation(delegated.access_token));
  require(answer.active === false && Object.keys(answer).length === 1, JSON.stringify(answer));
});

await check("openid_client_discovery_and_client_credentials", async () => {
  const config = await openid.discovery(issuer, agentId, {}, openid.TlsClientAuth(), { algorithm: "oauth2", [openid.customFetch]: tlsFetch(ca, workload) });
  config[openid.customFetch] = tlsFetch(ca, workload);
  const handle = openid.getDPoPHandle(config, await openid.randomDPoPKeyPair("ES256"));
  const answer = await openid.clientCredentialsGrant(config, { resource, scope }, { DPoP: handle });
  require(answer.access_token, "no token");
  const exchanged = await openid.genericGrantRequest(config, EXCHANGE, { subject_token: userToken, subject_token_type: ACCESS_TOKEN, resource, scope }, { DPoP: handle });
  require(jose.decodeJwt(exchanged.access_token).act?.sub === agentId, "no act");
  await openid.tokenRevocation(config, exchanged.access_token);
});

await check("no_certificate_no_assertion_is_invalid_client", () => refused("invalid_client", () => clientCredentials({ resource, scope }, anonymous)));
await check("a_forged_dpop_proof_is_refused", () => refused("invalid_dpop_proof", async () => {
  const other = crypto.randomUUID();
  const response = await asWorkload[oauth.customFetch](as.token_endpoint, { method: "POST", headers: { dpop: `eyJhbGciOiJub25lIn0.${Buffer.from(`{"jti":"${other}"}`).toString("base64url")}.` },
    body: new URLSearchParams({ grant_type: "client_credentials", client_id: agentId, resource, scope }) });
  await oauth.processClientCredentialsResponse(as, client, response);
}));
done();
