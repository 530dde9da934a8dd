"""The token service against the field: a user of a real Keycloak, clients of npm and PyPI, an MCP server and client.

One agent instance, `bot`, acts for the user; `orders-api` serves the resource. Each is a program under a path of its own,
which is what the agent tells them apart by.
"""

import base64
import http.server
import json
import os
import shutil
import ssl
import threading

from harness import keycloak, process, system, toolchain
from harness.process import Daemon, wait_until
from harness.results import note, require

from .clients import run_program

AUDIENCE = "https://id.example.org"  # reserved for exchange at the users' provider
RESOURCE, BEARER = "https://orders.example.org/mcp", "https://legacy.example.org"
SCOPE = "orders:read"
TD = system.TRUST_DOMAIN
BOT, SERVER, CONSOLE = (f"spiffe://{TD}/agent/{name}/1" for name in ("bot", "orders-api", "console"))


def run(results, context):
    require(context.server == context.agent == "signet", "the token service is Signet's")
    folder = context.folder("tokens")
    with results.check("set_up", abort=True):
        play = Play(folder)
    try:
        play.oauth_clients(results)
        play.mcp(results)
        play.keycloak_accepts_our_jwt_svid(results)
        play.no_secret_in_logs(results)
    finally:
        play.stop()


class Play:
    def __init__(self, folder):
        self.folder = folder
        self.node = toolchain.node_programs()
        self.python = toolchain.python()
        self.bundle_endpoint = keycloak.server_certificate(folder / "bundle-endpoint")
        self.keycloak = keycloak.Keycloak(folder / "keycloak", AUDIENCE, ["orders:read", "orders:write"], [self.bundle_endpoint[0]])
        self.console_key, console_keys = _key_pair(folder / "console", "console-1")
        self.server = system.SignetServer(folder / "s", token_service={CONSOLE: console_keys})
        self.agent = system.SignetAgent(folder / "a", self.server, token=self.server.cli.join_token(system.NODE_ID))
        self._register()
        self._programs()
        tokens = self.keycloak.tokens("openid orders:read")
        self.user_token = folder / "user.jwt"
        self.user_token.write_text(tokens["access_token"])

    def _register(self):
        scopes = {"orders:read": {"actions": ["orders:read"]}, "orders:write": {"actions": ["orders:write"]}}
        server = {"spiffe_id": f"spiffe://{TD}/agent/orders-api", "owner": "interop", "risk": "low", "state": "active"}
        self._apply("identity", server)
        common = {"servers": [server["spiffe_id"]], "default_scopes": ["orders:read"], "scopes": scopes}
        self._apply("resource", {"uri": RESOURCE, **common, "tools": [
            {"name": "query_orders", "description": "query_orders", "risk": "low", "read_only": True},
            {"name": "refund_order", "description": "refund_order", "risk": "high"}]})
        self._apply("resource", {"uri": BEARER, **common, "minimum_binding": "bearer"})
        ceiling = [{"resource": RESOURCE, "scopes": ["orders:read", "orders:write"], "tools": ["query_orders"]},
                   {"resource": BEARER, "scopes": ["orders:read"]}]
        for name in ("bot", "console"):
            self._apply("identity", {"spiffe_id": f"spiffe://{TD}/agent/{name}", "owner": "interop", "risk": "low", "state": "active",
                                     "ceiling": ceiling, "own_authority": ceiling})
        issuer = self.keycloak.issuer
        self._apply("issuer", {
            "url": issuer, "jwks_uri": f"{issuer}/protocol/openid-connect/certs", "ca_file": str(self.keycloak.ca),
            "allow_private_address": True, "audiences": [AUDIENCE],
            "rights": {"orders:read": {"authorities": [
                {"resource": RESOURCE, "scopes": ["orders:read"], "tools": ["query_orders", "refund_order"]},
                {"resource": BEARER, "scopes": ["orders:read"]}]}}})
        user = json.loads(_payload(self.keycloak.tokens("openid")["access_token"]))["sub"]
        self._apply("grant", {
            "user": {"issuer": issuer, "subject": user}, "identity": f"spiffe://{TD}/agent/bot",
            "audiences": [RESOURCE, BEARER], "expires_at": "1h", "authority": [
                {"resource": RESOURCE, "scopes": ["orders:read"], "tools": ["query_orders"]},
                {"resource": BEARER, "scopes": ["orders:read"]}]}, verb="create")

    def _apply(self, noun, record, verb="apply"):
        """Writes one record through `signet`, as an operator does."""
        return _output(self.server.cli.argv(noun, verb, "--file", "-", "--output", "json"), json.dumps(record))

    def _programs(self):
        """One program a workload: the agent tells them apart by the executable."""
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        self.identities = {}
        for name, spiffe_id in (("bot", BOT), ("orders-api", SERVER)):
            for what, source in ((name, toolchain.signet() / "signet"), (f"{name}-node", shutil.which("node")),
                                 (f"{name}-curl", shutil.which("curl"))):
                shutil.copy(os.path.realpath(source), self.programs / what)
                self.server.cli.create_entry(spiffe_id, [f"unix:path:{self.programs / what}"], x509_ttl=600)
        for name in ("bot", "orders-api"):
            target = self.folder / f"svid-{name}"
            program = self.programs / name
            fetch = [program, "svid", "fetch", "--socket", self.agent.workload_socket]
            wait_until(f"an SVID of {name}", lambda: _succeeds(fetch), daemons=[self.agent.daemon, self.server.daemon])
            _output([*fetch, "--write", target])
            self.identities[name] = (target / "svid.0.pem", target / "svid.0.key")
        self.ca = self.folder / "svid-bot" / "bundle.0.pem"
        self.jwt_svid = self.folder / "jwt-svid"
        self._write_jwt_svid(self.server.issuer, self.jwt_svid)

    def _write_jwt_svid(self, audience, path):
        _output([self.programs / "bot", "svid", "fetch-jwt", "--audience", audience, "--write", path, "--socket",
                       self.agent.workload_socket])

    def environment(self):
        bot, server = self.identities["bot"], self.identities["orders-api"]
        return {
            "INTEROP_TOKEN_ISSUER": self.server.issuer, "INTEROP_TOKEN_CA": str(self.ca), "INTEROP_RESOURCE": RESOURCE,
            "INTEROP_BEARER_RESOURCE": BEARER, "INTEROP_SCOPE": SCOPE, "INTEROP_TOOL": "query_orders",
            "INTEROP_AGENT_CERT": str(bot[0]), "INTEROP_AGENT_KEY": str(bot[1]), "INTEROP_AGENT_ID": BOT,
            "INTEROP_SERVER_CERT": str(server[0]), "INTEROP_SERVER_KEY": str(server[1]), "INTEROP_SERVER_ID": SERVER,
            "INTEROP_CONSOLE_KEY": str(self.console_key), "INTEROP_CONSOLE_KID": "console-1", "INTEROP_CONSOLE_ID": CONSOLE,
            "INTEROP_USER_TOKEN_FILE": str(self.user_token), "INTEROP_JWT_SVID_FILE": str(self.jwt_svid),
            "INTEROP_TOKEN_SOCKET": str(self.agent.token_socket),
        }

    def oauth_clients(self, results):
        run_program(results, ["node", self.node / "oauth.mjs"], self.environment(), 120, prefix="npm/")
        run_program(results, [toolchain.go_programs() / "jose"], self.environment(), 60, prefix="go/")
        run_program(results, [self.python, toolchain.HERE / "python" / "tokens.py"], self.environment(), 120, prefix="pypi/")

    def mcp(self, results):
        env = self.environment()
        log = self.folder / "mcp.log"
        daemon = Daemon("mcp server", [self.programs / "orders-api-node", self.node / "mcp_server.mjs"], log, env)
        try:
            line = wait_until("the MCP server", lambda: [x for x in log.read_text().splitlines() if x.startswith("listening")],
                              daemons=[daemon])[0]
            run_program(results, [self.programs / "bot-node", self.node / "mcp_client.mjs"],
                        {**env, "INTEROP_MCP_PORT": line.split()[1]}, 60, prefix="mcp/")
        finally:
            daemon.stop()

    def keycloak_accepts_our_jwt_svid(self, results):
        """Keycloak reads our bundle over https and takes a JWT-SVID as the client's only credential."""
        cli = self.server.cli

        class Bundle(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                text = cli.bundle_spiffe().encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        endpoint = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bundle)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.bundle_endpoint)
        endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        try:
            with results.check("keycloak_accepts_our_jwt_svid"):
                self.keycloak.trust_spiffe(f"spiffe://{TD}", f"https://localhost:{endpoint.server_address[1]}/", BOT)
                path = self.folder / "for-keycloak"
                self._write_jwt_svid(self.keycloak.issuer, path)
                answer = self.keycloak.client_credentials(path.read_text().strip())
                require(answer.get("access_token"), f"Keycloak answered {answer}")
        finally:
            endpoint.shutdown()

    def no_secret_in_logs(self, results):
        """No token, assertion or key in any log of ours (D.2 14)."""
        with results.check("no_secret_in_logs_d2_14"):
            secrets = [self.user_token.read_text().strip(), self.jwt_svid.read_text().strip()]
            for log in (self.folder / "s" / "server.log", self.folder / "a" / "agent.log"):
                text = log.read_text(errors="replace")
                for secret in secrets:
                    require(secret.split(".")[2] not in text, f"{log.name} holds a token's signature")
                require("PRIVATE KEY" not in text, f"{log.name} holds a key")
                note(f"{log.name}: {len(text)} bytes without a secret")

    def stop(self):
        self.agent.stop()
        self.server.stop()
        self.keycloak.stop()


def _output(argv, text=None):
    return process.run(argv, input=text).stdout


def _succeeds(argv):
    return process.run(argv, check=False).returncode == 0


def _payload(token):
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _key_pair(folder, kid):
    """A client's EC key as PKCS#8 PEM, and its public half as a JWK set file."""
    folder.mkdir(parents=True, exist_ok=True)
    key, keys = folder / "key.pem", folder / "keys.json"
    _output(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
    der = folder / "key.der"
    _output(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER", "-out", der])
    point = der.read_bytes()[-64:]
    encode = lambda b: base64.urlsafe_b64encode(b).rstrip(b"=").decode()  # noqa: E731
    keys.write_text(json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
                                          "x": encode(point[:32]), "y": encode(point[32:])}]}))
    return key, keys
