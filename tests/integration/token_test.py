"""The token service with real processes: an agent's SVID and plain curl are the whole client."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from system import System, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]
ORDERS = "spiffe://example.org/agent/orders/1"
RESOURCE = "https://mcp.example.org/orders"


def decode(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class TokenTest(unittest.TestCase):
    OPTIONS = ""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.issuer = f"https://localhost:{self.port}"
        self.front = self.path / "workload/token.sock"
        self.system = System(BIN, self.folder.name, self.token_service(), f"token_service: {{socket: {self.front}}}")
        self.addCleanup(self.system.stop)
        self.system.start()
        self.cacert = self.system.bundle
        self.entry = self.system.create_entry("/agent/orders/1")
        self.register()
        self.svid = self.write_svid()

    def token_service(self):
        return f"token_service: {{listen: 127.0.0.1:{self.port}, issuer: {self.issuer}}}"

    def register(self):
        signet = self.system.signet
        signet("resource", "create", "--uri", RESOURCE, "--scope", "orders:read", "--scope", "orders:write",
               "--default-scope", "orders:read")
        signet("identity", "create", "--spiffe-id", "spiffe://example.org/agent/orders", "--owner", "payments", "--active",
               "--own-authority", f"{RESOURCE}=orders:read")

    def write_svid(self):
        target = self.path / "svid"
        self.system.wait_svid("/agent/orders/1")
        self.system.run("svid", "fetch", "--write", target, socket=self.system.workload)
        return target

    def jwt_svid(self, audience):
        return self.system.run("svid", "fetch-jwt", "--audience", audience, socket=self.system.workload).stdout.split()[-1]

    # -- curl ---------------------------------------------------------------------------------------------------------
    def curl(self, path, *arguments, certificate=True, issuer=None):
        """(status, headers, body) of the answer; the server's name is checked against the bundle."""
        command = ["curl", "-sS", "--max-time", "20", "--cacert", self.cacert, "-D", "-", (issuer or self.issuer) + path]
        if certificate:
            command += ["--cert", self.svid / "svid.0.pem", "--key", self.svid / "svid.0.key"]
        done = subprocess.run([*map(str, command), *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        head, _, body = done.stdout.partition("\n\n") if "\r\n\r\n" not in done.stdout else done.stdout.partition("\r\n\r\n")
        return int(head.split()[1]), head, body

    def ask(self, expect=200, path="/oauth2/token", **form):
        certificate = form.pop("certificate", True)
        fields = [x for name, value in form.items() for x in ("--data-urlencode", f"{name}={value}")]
        status, head, body = self.curl(path, *fields, certificate=certificate)
        self.assertEqual(status, expect, body)
        self.assertIn("Cache-Control: no-store", head)
        return json.loads(body) if body else None

    def client_credentials(self, expect=200, **changes):
        form = dict(grant_type="client_credentials", client_id=ORDERS, resource=RESOURCE, scope="orders:read", token_binding="x5t")
        form.update(changes)
        return self.ask(expect, **{k: v for k, v in form.items() if v is not None})

    # -- tests --------------------------------------------------------------------------------------------------------
    def test_an_svid_and_curl_are_the_whole_client(self):
        answer = self.client_credentials()
        self.assertEqual(answer["token_type"], "Bearer")  # RFC 8705 3: bound to the certificate
        self.assertEqual(answer["scope"], "orders:read")
        header, claims = map(decode, answer["access_token"].split(".")[:2])
        self.assertEqual(header["typ"], "at+jwt")
        self.assertEqual((claims["iss"], claims["sub"], claims["aud"], claims["sub_profile"]),
                         (self.issuer, ORDERS, RESOURCE, "ai_agent"))
        der = subprocess.run(["openssl", "x509", "-in", self.svid / "svid.0.pem", "-outform", "der"], check=True,
                             capture_output=True).stdout
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        self.assertEqual(claims["cnf"], {"x5t#S256": thumbprint})
        status, _, body = self.curl("/jwks", certificate=False)
        self.assertEqual(status, 200)
        self.assertIn(header["kid"], [key["kid"] for key in json.loads(body)["keys"]])

    def test_refusals(self):
        self.client_credentials(401, client_id=None)
        self.client_credentials(401, client_id="spiffe://example.org/agent/orders/2")
        self.client_credentials(401, certificate=False)
        texts = {json.dumps({k: v for k, v in self.client_credentials(401, client_id=other).items() if k != "error_id"})
                 for other in ("spiffe://example.org/agent/orders", "x", None)}
        self.assertEqual(len(texts), 1, texts)
        self.assertEqual(self.client_credentials(400, scope="orders:write")["error"], "invalid_scope")
        self.assertEqual(self.client_credentials(400, resource="https://other.example.org")["error"], "invalid_target")
        self.assertEqual(self.client_credentials(400, grant_type="password")["error"], "unsupported_grant_type")
        self.assertEqual(self.client_credentials(401, client_secret="s")["error"], "invalid_client")
        status, _, body = self.curl("/oauth2/token", "-d", "x=" + "y" * 70000)
        self.assertEqual((status, json.loads(body)["error"]), (413, "invalid_request"))
        self.assertIn("error_id", json.loads(body))
        self.assertEqual(self.curl("/oauth2/token")[0], 405)
        self.assertEqual(self.curl("/nothing")[0], 404)

    def test_t6_a_minted_svid_and_one_whose_entry_is_gone_get_nothing(self):
        self.client_credentials()
        self.system.signet("entry", "delete", "--id", self.entry["id"])
        wait_for("refusal of an SVID without its entry", lambda: self.status_of_client_credentials() == 401)
        # The same again by an administrator's hand: no agent attested it.
        minted = self.path / "minted"
        self.system.run("svid", "mint-x509", "--spiffe-id", ORDERS, "--write", minted, socket=self.system.admin)
        self.svid = minted
        self.client_credentials(401)

    def test_t6_a_banned_agents_svid_gets_nothing(self):
        self.client_credentials()
        self.system.signet("agent", "ban", self.system.agent_id())
        wait_for("refusal of a banned agent's SVID", lambda: self.status_of_client_credentials() == 401)

    def status_of_client_credentials(self):
        fields = dict(grant_type="client_credentials", client_id=ORDERS, resource=RESOURCE, token_binding="x5t")
        return self.curl("/oauth2/token", *[x for name, value in fields.items() for x in ("--data-urlencode", f"{name}={value}")])[0]

    def test_t5_a_revoked_signing_key_is_replaced_by_hand(self):
        signet = self.system.signet
        before = self.client_credentials()["access_token"]
        kid = decode(before.split(".")[0])["kid"]
        keys = signet("authority", "list", "--kind", "token")["keys"]
        self.assertEqual([(key["kid"], key["state"]) for key in keys], [(kid, "active")])
        signet("authority", "revoke", "--kind", "token", kid, "--reason", "stolen")
        self.assertEqual(self.client_credentials(400)["error"], "invalid_grant")  # nothing is issued
        after = signet("authority", "rotate", "--kind", "token")
        self.assertEqual((after["state"], after["revoked"]), ("active", False))
        token = self.client_credentials()["access_token"]
        self.assertEqual(decode(token.split(".")[0])["kid"], after["kid"])
        listed = {key["kid"]: (key["state"], key["revoked"]) for key in signet("authority", "list", "--kind", "token")["keys"]}
        self.assertEqual(listed, {kid: ("old", True), after["kid"]: ("active", False)})
        # The agent's front gets a token too, and the key survives a restart.
        self.test_the_agents_front_needs_no_certificate_at_all()
        self.system.server.stop()
        self.system.server.start()
        wait_for("the same key again", lambda: self.status_of_client_credentials() == 200)
        token = self.client_credentials()["access_token"]
        self.assertEqual(decode(token.split(".")[0])["kid"], after["kid"])
        # Ahead of time: prepared and published, then activated.
        prepared = signet("authority", "prepare", "--kind", "token")
        published = json.loads(self.curl("/jwks", certificate=False)[2])["keys"]
        self.assertIn(prepared["kid"], [key["kid"] for key in published])
        self.assertEqual(decode(self.client_credentials()["access_token"].split(".")[0])["kid"], after["kid"])
        signet("authority", "activate", "--kind", "token", prepared["kid"])
        self.assertEqual(decode(self.client_credentials()["access_token"].split(".")[0])["kid"], prepared["kid"])
        refused = self.system.run("authority", "rotate", "--kind", "x509", socket=self.system.admin, check=False)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("rotated by the clock", refused.stderr)

    def test_suspending_the_identity_stops_its_tokens(self):
        self.client_credentials()
        self.system.signet("identity", "suspend", "spiffe://example.org/agent/orders")
        self.assertIn(self.status_of_client_credentials(), (400, 401))

    def test_an_svid_with_the_extension_is_one_for_others_too(self):
        self.assertIn("OK", openssl("verify", "-CAfile", self.system.bundle, self.svid / "svid.0.pem"))
        text = openssl("x509", "-in", self.svid / "svid.0.pem", "-noout", "-text")
        self.assertIn("1.2.840.113556.1.8000.2554.", text)
        self.assertNotIn("spire/agent", text)

    def test_a_jwt_svid_is_an_assertion_only_with_a_proof(self):
        token = self.jwt_svid(self.issuer)
        claims = decode(token.split(".")[1])
        self.assertEqual(claims["iss"], self.issuer + "/spiffe")
        self.assertIn("signet_issued_to", claims)
        other = self.jwt_svid("elsewhere")
        self.assertNotIn("signet_issued_to", decode(other.split(".")[1]))
        form = dict(certificate=False, client_id=None, token_binding=None, client_assertion=token,
                    client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-spiffe")
        self.client_credentials(401, **form)

    def test_the_agents_front_needs_no_certificate_at_all(self):
        done = subprocess.run(["curl", "-sS", "--unix-socket", self.front, "http://localhost/oauth2/token",
                               "-d", "grant_type=client_credentials", "--data-urlencode", f"resource={RESOURCE}"],
                              capture_output=True, text=True, timeout=60)
        answer = json.loads(done.stdout)
        self.assertEqual((answer.get("token_type"), answer.get("scope")), ("DPoP", "orders:read"), answer)

    def test_documents(self):
        metadata = json.loads(self.curl("/.well-known/oauth-authorization-server", certificate=False)[2])
        self.assertEqual(metadata["issuer"], self.issuer)
        keys = {path: {key["kid"] for key in json.loads(self.curl(path, certificate=False)[2])["keys"]}
                for path in ("/jwks", "/receipt-jwks", "/spiffe/jwks")}
        self.assertFalse(keys["/jwks"] & keys["/receipt-jwks"] or keys["/jwks"] & keys["/spiffe/jwks"]
                         or keys["/receipt-jwks"] & keys["/spiffe/jwks"])
        bundle = self.system.run("bundle", "show", "--format", "spiffe", socket=self.system.admin).stdout
        for kid in keys["/jwks"] | keys["/receipt-jwks"]:
            self.assertNotIn(kid, bundle)  # T5
        discovery = json.loads(self.curl("/spiffe/.well-known/openid-configuration", certificate=False)[2])
        self.assertEqual(discovery["issuer"], self.issuer + "/spiffe")


class TokenCertificateTest(TokenTest):
    """The HTTPS certificate from files, exchanged while the server runs."""

    def token_service(self):
        self.make_certificate("one")
        for end in ("pem", "key"):
            shutil.copy(self.path / f"one.{end}", self.path / f"web.{end}")
        return (f"token_service: {{listen: 127.0.0.1:{self.port}, issuer: {self.issuer}, "
                f"certificate: {{certificate_path: {self.path}/web.pem, private_key_path: {self.path}/web.key}}}}")

    def make_certificate(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", self.path / f"{name}.key", "-out", self.path / f"{name}.pem", "-addext", "subjectAltName=DNS:localhost")

    def setUp(self):
        super().setUp()
        self.cacert = self.path / "one.pem"

    def test_the_certificate_is_read_again(self):
        self.client_credentials()
        self.make_certificate("two")
        for end in ("pem", "key"):
            shutil.copy(self.path / f"two.{end}", self.path / f"web.{end}")
        self.system.server.process.send_signal(signal.SIGHUP)
        self.cacert = self.path / "two.pem"
        wait_for("the new certificate", lambda: subprocess.run(
            ["curl", "-s", "--cacert", self.cacert, self.issuer + "/jwks"], capture_output=True).returncode == 0)
        self.client_credentials()
        # Files that do not fit: the one before goes on, and the health says so.
        shutil.copy(self.path / "one.key", self.path / "web.key")
        self.system.server.process.send_signal(signal.SIGHUP)
        wait_for("a word about the wrong files", lambda: "is not the key of" in self.system.server.log_text())
        self.client_credentials()


if __name__ == "__main__":
    unittest.main()
