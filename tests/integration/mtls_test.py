"""signet svid serve and call: two workloads that prove to each other who they are, and take no other."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

from system import System, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]
NAMES = ("backend", "frontend", "stranger")


def spiffe(name):
    return f"spiffe://example.org/{name}"


class MtlsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.system = System(BIN, self.folder.name, agent_options="workload_attestors: {unix: {discover_path: true}}")
        self.addCleanup(self.system.stop)
        self.system.start()
        self.programs, self.logs, self.running = {}, {}, []
        for name in NAMES:  # told apart by their paths
            self.programs[name] = shutil.copy(pathlib.Path(BIN) / "signet", pathlib.Path(self.folder.name) / name)
            self.system.create_entry(f"/{name}", f"unix:path:{self.programs[name]}", x509_ttl="10s")
        self.addCleanup(lambda: [process.kill() or process.wait() for process in self.running])

    def start(self, name, *arguments):
        log = pathlib.Path(self.folder.name) / f"{name}.log"
        with open(log, "w", encoding="utf-8") as out:
            self.running.append(subprocess.Popen(
                [self.programs[name], "svid", *arguments, "--socket", self.system.workload, "--output", "json"], stdout=out, stderr=out))
        self.logs[name] = log
        return self.running[-1]

    def events(self, name, kind):
        lines = self.logs[name].read_text(encoding="utf-8").splitlines(keepends=True)
        return [e for e in (json.loads(line) for line in lines if line.endswith("\n")) if e["event"] == kind]

    def serve(self, *allowed):
        process = self.start("backend", "serve", "--listen", "127.0.0.1:0", *(a for name in allowed for a in ("--allow", spiffe(name))))
        wait_for("the backend serves", lambda: self.events("backend", "serving"))
        return process, f"127.0.0.1:{self.events('backend', 'serving')[0]['port']}"

    def call(self, name, address, expect):
        return subprocess.run([self.programs[name], "svid", "call", address, "--expect", spiffe(expect), "--socket", self.system.workload],
                              capture_output=True, text=True, timeout=60, check=False)

    def test_both_know_who_the_other_is(self):
        _, address = self.serve("frontend")
        done = self.call("frontend", address, "backend")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("answered  by spiffe://example.org/backend  to spiffe://example.org/frontend", done.stdout)
        self.assertEqual([e["by"] for e in self.events("backend", "called")], [spiffe("frontend")])

    def test_who_is_not_allowed_is_refused_and_told_why(self):
        _, address = self.serve("frontend")
        done = self.call("stranger", address, "backend")
        self.assertEqual(done.returncode, 1)
        self.assertIn("stranger is not one of those", done.stderr)
        self.assertEqual(self.events("backend", "called"), [])

    def test_another_than_expected_is_not_spoken_to(self):
        _, address = self.serve("frontend")
        done = self.call("frontend", address, "stranger")
        self.assertEqual(done.returncode, 1)
        self.assertIn("server is spiffe://example.org/backend, expected spiffe://example.org/stranger", done.stderr)
        self.assertEqual(self.events("backend", "called"), [])

    def test_goes_on_with_new_svids_and_ends_when_told(self):
        backend, address = self.serve("frontend")
        frontend = self.start("frontend", "call", address, "--expect", spiffe("backend"), "--every", "100ms")
        serials = {name: (lambda name=name: {e["serial"] for e in self.events(name, "holds")}) for name in ("backend", "frontend")}
        wait_for("both hold a second SVID", lambda: all(len(s()) >= 2 for s in serials.values()), 30)
        before = len(self.events("frontend", "answered"))
        wait_for("calls go on", lambda: len(self.events("frontend", "answered")) > before + 2)
        self.assertEqual(self.events("frontend", "failed"), [])
        for process in (frontend, backend):
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(20), 0)


if __name__ == "__main__":
    unittest.main()
