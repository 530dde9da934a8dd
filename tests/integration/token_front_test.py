"""token.sock with real processes: curl from a registered process is the whole client, its agent does the rest. T4, T6: the
rules of the agent's half; D2_8: the SVID rotates in the middle of a task."""
import base64
import json
import os
import subprocess
import tempfile
import time
import unittest

from system import System, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]
RESOURCE = "https://mcp.example.org/orders"
ORDERS = "spiffe://example.org/agent/orders"
PLANNER, TOOLS, STRANGER = 0, 65534, 1  # user ids of the workloads


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Front:
    """A system whose agent fronts its token service. Root is the agent orders/1; user 65534 serves the resource."""

    def __init__(self, test, svid_ttl="1h", agent_options=""):
        if os.getuid() != 0:
            test.skipTest("needs root: workloads are told apart by their user")
        self.test = test
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        test.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o711)  # other users reach the socket
        self.system = System(BIN, self.folder.name)
        test.addCleanup(self.system.stop)
        self.system.front_tokens()
        if agent_options:
            self.system.agent_options = self.system.agent_options.replace("token.sock}", f"token.sock, {agent_options}}}")
        self.system.start()
        self.entry = self.system.create_entry("/agent/orders/1", f"unix:uid:{PLANNER}", x509_ttl=svid_ttl)
        self.system.create_entry("/agent/tools/1", f"unix:uid:{TOOLS}")
        signet = self.system.signet
        signet("resource", "create", "--uri", RESOURCE, "--scope", "orders:read", "--default-scope", "orders:read",
               "--served-by", "spiffe://example.org/agent/tools")
        for name, more in (("orders", ["--own-authority", f"{RESOURCE}=orders:read"]), ("tools", [])):
            signet("identity", "create", "--spiffe-id", f"spiffe://example.org/agent/{name}", "--owner", "payments", "--active", *more)
        self.system.wait_svid("/agent/orders/1")

    def curl(self, path, user=PLANNER, headers=(), **form):
        """(status, answer) of a POST by a process of `user`."""
        command = ["curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", "--unix-socket", self.system.token_socket,
                   "http://localhost" + path]
        for header in headers:
            command += ["-H", header]
        for name, value in form.items():
            for one in value if isinstance(value, list) else [value]:
                command += ["--data-urlencode", f"{name.replace('peer_x5t', 'peer_x5t#S256')}={one}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, user=user, cwd="/", check=False)
        self.test.assertEqual(done.returncode, 0, done.stderr)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def token(self, user=PLANNER, **form):
        return self.curl("/oauth2/token", user, **{"grant_type": "client_credentials", "resource": RESOURCE, **form})

    def good_token(self, **form):
        status, answer = self.token(**form)
        self.test.assertEqual(status, 200, answer)
        return answer["access_token"]

    def proof(self, token):
        status, answer = self.curl("/oauth2/dpop", htm="POST", htu=RESOURCE, access_token=token)
        self.test.assertEqual(status, 200, answer)
        return answer["dpop"]

    def introspect(self, token, user=TOOLS, **seen):
        status, answer = self.curl("/oauth2/introspect", user, token=token, **seen)
        self.test.assertEqual(status, 200, answer)
        if not answer["active"]:
            self.test.assertEqual(answer, {"active": False})
        return answer

    def present(self, token):
        """What the resource is told when orders/1 presents the token with a fresh proof."""
        return self.introspect(token, dpop=self.proof(token), htm="POST", htu=RESOURCE)

    def asked(self, name):
        for line in self.system.agent.http("/metrics")[1].splitlines():
            if line.startswith(f"signet_introspections_{name}_total "):
                return float(line.split()[1])
        raise AssertionError(f"no counter {name}")

    def wait_local(self):
        """Until the agent answers by itself."""
        def local():
            before = self.asked("local")
            token = self.good_token()
            return self.present(token)["active"] and self.asked("local") > before
        wait_for("an answer from pushed state", local)


class TokenFrontTest(unittest.TestCase):
    def test_curl_is_the_whole_client(self):
        front = Front(self)
        status, answer = front.token()
        self.assertEqual(status, 200, answer)
        self.assertEqual((answer["token_type"], answer["scope"]), ("DPoP", "orders:read"))
        claims = claims_of(answer["access_token"])
        self.assertEqual((claims["sub"], claims["aud"]), (ORDERS + "/1", RESOURCE))
        self.assertIn("jkt", claims["cnf"])
        self.assertEqual(claims["cnf"], claims_of(front.good_token())["cnf"])  # one key for the instance
        self.assertEqual(front.token(scope="orders:everything")[1]["error"], "invalid_scope")

    def test_t6_the_caller_is_the_process_and_nothing_it_says(self):
        front = Front(self)
        status, answer = front.token(STRANGER)
        self.assertEqual((status, answer["error"]), (403, "access_denied"))
        status, answer = front.token(STRANGER, client_id=ORDERS + "/1")
        self.assertEqual(status, 403)
        self.assertEqual(front.token(TOOLS, client_id=ORDERS + "/1")[0], 401)
        for header in ("Authorization: Bearer x", "Forwarded: for=1", "Client-Cert: :x:", "X-Forwarded-Client-Cert: x"):
            status, answer = front.curl("/oauth2/token", headers=[header], grant_type="client_credentials", resource=RESOURCE)
            self.assertEqual((status, answer["error"]), (400, "invalid_request"), header)
        self.assertEqual(front.token(client_assertion="x")[0], 400)

    def test_t6_two_identities_need_client_id(self):
        front = Front(self)
        front.system.create_entry("/agent/orders/2", f"unix:uid:{PLANNER}")
        wait_for("two identities", lambda: len(front.system.fetch(check=False) or []) == 2)
        self.assertEqual(front.token()[0], 400)
        for instance in (ORDERS + "/1", ORDERS + "/2"):
            self.assertEqual(claims_of(front.good_token(client_id=instance))["client_id"], instance)
        self.assertEqual(front.token(client_id=ORDERS)[0], 401)

    def test_t4_the_resource_asks_its_own_agent(self):
        front = Front(self)
        front.wait_local()
        token = front.good_token()
        seen = {"dpop": front.proof(token), "htm": "POST", "htu": RESOURCE}
        answer = front.introspect(token, **seen)
        self.assertEqual((answer["active"], answer["sub"], answer["scope"]), (True, ORDERS + "/1", "orders:read"))
        self.assertEqual(answer["cnf"], claims_of(token)["cnf"])  # D2_4
        self.assertFalse(front.introspect(token, **seen)["active"])  # the same proof again
        self.assertFalse(front.introspect(token)["active"])
        self.assertFalse(front.introspect(token, **{**seen, "dpop": front.proof(token), "htm": "GET"})["active"])
        self.assertFalse(front.introspect(token, PLANNER, **{**seen, "dpop": front.proof(token)})["active"])  # serves nothing
        status, answer = front.curl("/oauth2/introspect", STRANGER, token=token)
        self.assertEqual(status, 403)
        self.assertEqual(front.curl("/oauth2/dpop", htm="POST", htu=front.system.token_issuer + "/oauth2/token", access_token=token)[0], 400)
        self.assertEqual(front.curl("/oauth2/dpop", TOOLS, htm="POST", htu=RESOURCE, access_token=token)[0], 400)  # another's token

    def test_t3_what_is_revoked_is_refused_by_the_agent_within_a_second(self):
        front = Front(self)
        front.wait_local()
        token, other = front.good_token(), front.good_token()
        self.assertTrue(front.present(token)["active"])
        proof = front.proof(token)
        front.system.signet("revoke", "token", claims_of(token)["jti"], "--reason", "test")
        before = front.asked("local")
        self.assertFalse(front.introspect(token, dpop=proof, htm="POST", htu=RESOURCE)["active"])
        self.assertGreater(front.asked("local"), before)  # and by itself
        self.assertTrue(front.present(other)["active"])
        front.system.signet("identity", "suspend", ORDERS)
        began = time.monotonic()
        wait_for("the agent refuses", lambda: not front.introspect(other, dpop=proof, htm="POST", htu=RESOURCE)["active"], 1)
        self.assertLess(time.monotonic() - began, 1)
        self.assertNotEqual(front.token()[0], 200)

    def test_d2_8_the_svid_rotates_in_mid_task(self):
        front = Front(self, svid_ttl="60s")
        front.wait_local()
        first, bound = front.good_token(), front.good_token(token_binding="x5t")
        thumbprint = claims_of(bound)["cnf"]["x5t#S256"]
        self.assertTrue(front.introspect(bound, peer_x5t=thumbprint)["active"])
        self.assertFalse(front.introspect(bound, peer_x5t="other")["active"])
        # Though its agent judged it, the server knows: an alert, and a record of the refusal.
        alerts = [alert["kind"] for alert in front.system.signet("alert", "list")["alerts"]]
        self.assertIn("two-peers", alerts)
        before, end = front.system.fetch()[0]["x509_svid"], time.monotonic() + 50
        rotated = None
        while time.monotonic() < end:
            self.assertTrue(front.present(front.good_token())["active"])  # no failure is visible
            self.assertTrue(front.present(first)["active"])
            if rotated is None and front.system.fetch()[0]["x509_svid"] != before:
                rotated = time.monotonic()
                end = min(end, rotated + 5)
            time.sleep(0.25)
        self.assertIsNotNone(rotated, "the SVID has not rotated")
        again = front.good_token(token_binding="x5t")
        self.assertNotEqual(claims_of(again)["cnf"]["x5t#S256"], thumbprint)
        self.assertTrue(front.introspect(again, peer_x5t=claims_of(again)["cnf"]["x5t#S256"])["active"])
        wait_for("the end of the token of the old certificate", lambda: time.time() >= claims_of(bound)["exp"])
        self.assertFalse(front.introspect(bound, peer_x5t=thumbprint)["active"])

    def test_t4_without_the_server_it_fails_closed_after_two_seconds(self):
        front = Front(self)
        front.wait_local()
        token = front.good_token()
        proofs = [front.proof(token) for _ in range(8)]
        self.assertTrue(front.introspect(token, dpop=proofs.pop(), htm="POST", htu=RESOURCE)["active"])
        front.system.server.kill()
        time.sleep(2.1)
        for proof in proofs[:2]:
            self.assertFalse(front.introspect(token, dpop=proof, htm="POST", htu=RESOURCE)["active"])
        status, answer = front.token()
        self.assertEqual((status, answer["error"]), (503, "temporarily_unavailable"))
        front.system.server.start()
        wait_for("active again", lambda: front.present(token)["active"], 60)

    def test_t4_after_a_restart_of_the_agent_it_catches_up_first(self):
        front = Front(self)
        front.wait_local()
        token = front.good_token()
        front.system.agent.stop()
        front.system.agent.start()
        # The key the token is bound to is gone with the process that held it.
        wait_for("word of the token service", lambda: front.token()[0] == 200)
        status, answer = front.curl("/oauth2/dpop", htm="POST", htu=RESOURCE, access_token=token)
        self.assertEqual((status, answer["error"]), (400, "invalid_request"))
        front.wait_local()
        front.system.agent.stop()
        front.system.server.kill()
        front.system.agent.start()
        self.assertFalse(front.introspect(token, dpop="x", htm="POST", htu=RESOURCE)["active"])
        self.assertNotEqual(front.token()[0], 200)

    def test_t10_the_agent_keeps_the_head_of_the_audit_chain(self):
        front = Front(self)
        kept = front.system.agent.data / "audit-head.jws"
        wait_for("an audit head on the agent's disk", kept.exists, 30)
        self.assertEqual(kept.read_text().count("."), 2)
        before = kept.read_text()
        wait_for("a later one", lambda: kept.read_text() != before, 30)
        verified = front.system.signet("audit", "verify", "--head", kept)
        self.assertTrue(verified["tail_proven"], verified)


if __name__ == "__main__":
    unittest.main()
