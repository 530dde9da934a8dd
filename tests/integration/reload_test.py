"""SIGHUP with real processes: what changes while they run, what stays when the new configuration is wrong."""
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest

from system import System, listed, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]
ATTESTORS = "node_attestors: {join_token: {}, x509_pop: {ca_bundle_paths: [%s]}}"


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class ReloadTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.roots = self.path / "roots.pem"
        for name in ("old", "new"):
            self.make_root(name)
        self.roots.write_text((self.path / "old-root.pem").read_text())
        self.system = System(BIN, self.folder.name, ATTESTORS % self.roots)
        self.addCleanup(self.system.stop)
        self.system.server.start()

    def make_root(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", self.path / f"{name}-root.key", "-out", self.path / f"{name}-root.pem",
                "-addext", "keyUsage=critical,keyCertSign")

    def node_certificate(self, root, name):
        """The configuration of an agent whose certificate chains to `root`."""
        key, request, certificate, extensions = (self.path / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        extensions.write_text("keyUsage=critical,digitalSignature\n")
        openssl("x509", "-req", "-in", request, "-CA", self.path / f"{root}-root.pem", "-CAkey", self.path / f"{root}-root.key",
                "-CAcreateserial", "-days", "1", "-extfile", extensions, "-out", certificate)
        key.chmod(0o600)
        return f"x509_pop: {{certificate_path: {certificate}, private_key_path: {key}}}"

    def reload(self, daemon, says):
        """SIGHUP; the part of the log that it wrote, once that holds `says`."""
        before = len(daemon.log_text())
        daemon.process.send_signal(signal.SIGHUP)
        return wait_for(f"{says!r} in the log of {daemon.name}",
                        lambda: (text := daemon.log_text()[before:]) and says in text and text)

    def edit(self, daemon, before, after):
        text = daemon.config.read_text()
        self.assertIn(before, text)
        daemon.config.write_text(text.replace(before, after))

    def attests(self, root, name):
        agent = self.system.configure_agent(name=name, attestor=self.node_certificate(root, name))
        agent.spawn()
        self.addCleanup(agent.kill)

        def outcome():
            try:
                return "attested" if agent.is_ready() else None
            except AssertionError:  # it has ended
                return "refused"
        how = wait_for(f"{name} attested or refused", outcome)
        agent.kill()
        return how == "attested"

    def test_server_takes_a_new_root_from_its_file(self):
        server = self.system.server
        self.assertTrue(self.attests("old", "first"))
        self.assertFalse(self.attests("new", "second"))
        self.roots.write_text((self.path / "new-root.pem").read_text())
        self.assertFalse(self.attests("new", "third"))  # nothing is read between reloads
        self.reload(server, "configuration reloaded")
        self.assertTrue(self.attests("new", "fourth"))
        self.assertFalse(self.attests("old", "fifth"))  # and the old root is no root any more

        # A file that is none, a setting that is none: the running ones stay, and the log says which line is wrong.
        self.roots.write_text("no certificate\n")
        text = self.reload(server, "configuration not reloaded")
        self.assertRegex(text, r"server\.yaml:\d+: node_attestors\.x509_pop\.ca_bundle_paths: .*roots\.pem")
        self.roots.write_text((self.path / "new-root.pem").read_text())
        good = server.config.read_text()
        server.config.write_text(good + "listn: x\nsvid: {x509_ttl: 5x}\n")
        text = self.reload(server, "svid.x509_ttl")
        self.assertRegex(text, r"not reloaded.*server\.yaml:\d+: listn: unknown key; did you mean listen\?")
        self.assertNotIn("configuration reloaded", text)
        self.assertTrue(self.attests("new", "sixth"))

        # An attestor goes and comes; what only a restart takes up is named, and is not taken up.
        server.config.write_text(good.replace(ATTESTORS % self.roots, "ca: {ttl: 48h}\ndatastore: {sqlite: {path: other.db}}"))
        text = self.reload(server, "configuration reloaded")
        self.assertIn("node_attestors.x509_pop.ca_bundle_paths", text)
        for key in ("ca.ttl", "datastore"):
            self.assertRegex(self.tail(server, "takes effect after a restart", 2), rf"takes effect after a restart.* key={key}")
        self.assertFalse(self.attests("new", "seventh"))
        self.assertFalse((server.data / "other.db").exists())
        server.config.write_text(good)
        self.assertNotIn("restart", self.reload(server, "configuration reloaded"))
        self.assertTrue(self.attests("new", "eighth"))

    def tail(self, daemon, says, count):
        return wait_for(f"{count} times {says!r}", lambda: (t := daemon.log_text()) and t.count(says) >= count and t)

    def test_server_takes_log_level_and_administrators(self):
        server = self.system.server
        identity = self.path / "operator"
        self.system.run("svid", "mint-x509", "--spiffe-id", "spiffe://example.org/operator", "--write", identity, socket=self.system.admin)

        def allowed():
            done = self.system.run("entry", "list", "--server", server.addresses()["grpc"], "--identity-dir", identity, check=False)
            return done.returncode == 0
        self.assertFalse(allowed())
        good = server.config.read_text()
        server.config.write_text(good.replace("level: info", "level: debug") + "admin_ids: [spiffe://example.org/operator]\n")
        self.assertIn("log.level, admin_ids", self.reload(server, "configuration reloaded"))
        self.assertTrue(allowed())
        self.assertIn("debug", self.system.run("log-level", socket=self.system.admin).stdout.lower())
        server.config.write_text(good)
        self.reload(server, "configuration reloaded")
        self.assertFalse(allowed())

    def test_agent_takes_attestors_and_keeps_serving(self):
        self.system.agent_options = "workload_attestors: {unix: {discover_path: false}}"
        self.system.configure_agent()
        agent = self.system.agent
        agent.start()
        self.system.create_entry("/by-uid")
        self.system.create_entry("/by-path", f"unix:path:{os.path.realpath(self.system.bin / 'signet')}")
        self.system.wait_svid("/by-uid")
        self.assertEqual([svid["spiffe_id"] for svid in self.system.fetch()], ["spiffe://example.org/by-uid"])

        self.edit(agent, "discover_path: false", "discover_path: true, sha256_size_limit: 5furlongs")
        text = self.reload(agent, "configuration not reloaded")
        self.assertRegex(text, r"agent\.yaml:\d+: workload_attestors\.unix\.sha256_size_limit")
        self.assertEqual(len(self.system.fetch()), 1)

        self.edit(agent, "5furlongs", "1MiB")
        self.edit(agent, "workload/api.sock", "workload/other.sock")
        text = self.reload(agent, "takes effect after a restart")
        self.assertIn("workload_attestors.unix.discover_path, workload_attestors.unix.sha256_size_limit", text)
        self.assertIn("key=workload_socket", text)
        self.system.wait_svid("/by-path")

        # Its own evidence: a pair that does not fit is refused now, not at the next attestation.
        attestor = self.node_certificate("old", "node")
        text = agent.config.read_text()
        begin = text.index("node_attestor: ")
        line = text[begin:text.index("\n", begin)]
        self.edit(agent, line, f"node_attestor: {{{attestor}}}")
        (self.path / "node.key").rename(self.path / "node.key.away")
        self.assertIn("node_attestor.x509_pop.private_key_path", self.reload(agent, "configuration not reloaded"))
        (self.path / "node.key.away").rename(self.path / "node.key")
        self.assertIn("node_attestor.x509_pop", self.reload(agent, "configuration reloaded"))
        # It is used when the agent must attest anew. A token could not be shown twice.
        self.system.signet("agent", "evict", self.system.agent_id())
        wait_for("the agent by its certificate",
                 lambda: [a for a in listed(self.system.signet("agent", "list"), "agents") if a["attestation_type"] == "x509pop"])
        self.assertTrue(agent.running())


if __name__ == "__main__":
    unittest.main(verbosity=2)
