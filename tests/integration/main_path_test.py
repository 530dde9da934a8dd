"""The main path with real processes: attest, register, an SVID over the socket, rotated unasked, withdrawn at once."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import unittest

from system import System, listed, spiffe_id, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]


class MainPathTest(unittest.TestCase):
    server_options = ""
    agent_options = ""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.system = System(BIN, self.folder.name, self.server_options, self.agent_options)
        self.addCleanup(self.system.stop)
        self.system.start()

    def test_registered_process_gets_its_svid_and_openssl_agrees(self):
        entry = self.system.create_entry("/app", dns="app.example.org")
        self.assertTrue(entry["id"])
        self.system.wait_svid("/app")
        out = os.path.join(self.folder.name, "out")
        self.system.run("svid", "fetch", "--write", out, socket=self.system.workload)
        files = sorted(os.listdir(out))
        svid = next(name for name in files if "svid" in name and "key" not in name)
        key = next(name for name in files if "key" in name)
        bundle = next(name for name in files if "bundle" in name)
        self.assertEqual(os.stat(os.path.join(out, key)).st_mode & 0o777, 0o600)
        verified = subprocess.run(["openssl", "verify", "-CAfile", os.path.join(out, bundle), os.path.join(out, svid)],
                                  capture_output=True, text=True, check=False)
        self.assertEqual(verified.returncode, 0, verified.stderr)
        text = subprocess.run(["openssl", "x509", "-noout", "-text", "-in", os.path.join(out, svid)], capture_output=True,
                              text=True, check=True).stdout
        self.assertIn("URI:spiffe://example.org/app", text)           # X509-1
        self.assertIn("DNS:app.example.org", text)                    # X509-3
        self.assertIn("CA:FALSE", text)                               # X509-6
        self.assertIn("Digital Signature", text)                      # X509-8
        self.assertNotIn("Certificate Sign", text)                    # X509-10
        self.assertIn("TLS Web Server Authentication, TLS Web Client Authentication", text)  # X509-12

    def test_unregistered_process_is_refused(self):  # EP-12
        refused = self.system.run("svid", "fetch", socket=self.system.workload, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no identity", refused.stderr.lower())

    def test_selectors_of_another_process_do_not_match(self):
        self.system.create_entry("/other", f"unix:uid:{os.getuid()}", "unix:uid:4242")
        self.system.create_entry("/mine")
        self.system.wait_svid("/mine")
        self.assertEqual([svid["spiffe_id"] for svid in self.system.fetch()], ["spiffe://example.org/mine"])

    def test_jwt_svid_is_fetched_and_validated(self):
        self.system.create_entry("/app")
        self.system.wait_svid("/app")
        token = self.system.fetch(True, "fetch-jwt", "--audience", "db")[0]["svid"]
        valid = self.system.run("svid", "validate", "--audience", "db", "--svid", token, "--output", "json", socket=self.system.workload)
        self.assertEqual(json.loads(valid.stdout)["spiffe_id"], "spiffe://example.org/app")
        wrong = self.system.run("svid", "validate", "--audience", "other", "--svid", token, socket=self.system.workload, check=False)
        self.assertEqual(wrong.returncode, 1)  # JWT-10
        self.assertNotIn(token, wrong.stderr)  # N13

    def test_rotates_unasked(self):
        self.system.create_entry("/app", x509_ttl="6s")
        before = self.system.wait_svid("/app")
        wait_for("another certificate", lambda: self.system.wait_svid("/app")["x509_svid"] != before["x509_svid"])

    def test_deleted_entry_is_withdrawn_from_an_open_stream(self):  # WL-7
        entry = self.system.create_entry("/app")
        self.system.wait_svid("/app")
        watch = subprocess.Popen([self.system.bin / "signet", "svid", "watch", "--output", "json", "--socket", self.system.workload],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.kill)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(watch.stdout.readline, "")), daemon=True)
        reader.start()
        wait_for("the first message", lambda: any("/app" in line for line in lines))
        self.system.signet("entry", "delete", "--id", entry["id"])
        wait_for("refusal", lambda: self.system.fetch(check=False) is None)

    def test_spent_token_attests_nobody_else(self):
        token = self.system.new_token()
        self.system.agent.stop()
        second = self.system.configure_agent(token=token, name="second")
        second.start()
        second.stop()
        third = self.system.configure_agent(token=token, name="third")
        third.spawn()
        wait_for("refusal in the log", lambda: "token" in third.log_text() and not third.is_ready() if third.running() else True)
        self.assertEqual(len(self.system.agents()), 2)

    def test_alias_of_a_token_is_made_when_it_is_spent(self):
        token = self.system.new_token("--spiffe-id", "spiffe://example.org/node")
        self.assertEqual(listed(self.system.signet("entry", "list"), "entries"), [])
        self.system.agent.stop()
        self.system.configure_agent(token=token, name="aliased").start()
        entries = listed(self.system.signet("entry", "list"), "entries")
        self.assertEqual([spiffe_id(entry["spiffe_id"]) for entry in entries], ["spiffe://example.org/node"])
        self.system.create_entry("/below-alias", parent="spiffe://example.org/node")
        self.system.wait_svid("/below-alias")

    def test_banned_agent_serves_nothing_more(self):
        self.system.create_entry("/app")
        self.system.wait_svid("/app")
        self.system.signet("agent", "ban", "--spiffe-id", self.system.agent_id())
        wait_for("the agent to stop", lambda: not self.system.agent.running() or self.system.fetch(check=False) is None)
        self.system.agent.kill()
        self.system.agent.spawn()
        wait_for("it to stay without identity",
                 lambda: not self.system.agent.running() or "ban" in self.system.agent.log_text().lower())
        self.assertIsNone(self.system.fetch(check=False))

    def test_both_drain_and_exit_zero_on_sigterm(self):
        self.assertEqual(self.system.agent.stop(signal.SIGTERM), 0)
        self.assertEqual(self.system.server.stop(signal.SIGTERM), 0)

    def test_second_server_on_the_same_folder_is_refused(self):
        done = subprocess.run([self.system.bin / "signet-server", "run", "--config", self.system.server.config],
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.system.server.data), done.stderr + done.stdout)

    def test_metrics_and_health_answer(self):
        self.assertEqual(self.system.server.http("/livez")[0], 200)
        self.assertIn("signet_entries", self.system.server.http("/metrics")[1])
        self.assertIn("signet_", self.system.agent.http("/metrics")[1])

    def test_no_secret_in_a_log_at_any_level(self):  # N13, I9
        self.system.run("log-level", "trace", socket=self.system.admin)
        self.system.run("log-level", "trace", "--agent", socket=self.system.agent_admin)
        self.system.create_entry("/app")
        self.system.wait_svid("/app")
        token = self.system.fetch(True, "fetch-jwt", "--audience", "db")[0]["svid"]
        join_token = self.system.new_token()
        logs = self.system.server.log_text() + self.system.agent.log_text()
        for secret in (token, token.rsplit(".", 1)[1], join_token, "PRIVATE KEY"):
            self.assertNotIn(secret, logs)


if __name__ == "__main__":
    unittest.main(verbosity=2)
