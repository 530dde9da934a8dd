"""signet dev: a whole system in the foreground, and nothing of it left at the end, however it ends."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest

from system import wait_for

BIN = pathlib.Path(os.environ["SIGNET_BIN_DIR"])


class DevTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.dir = pathlib.Path(self.folder.name) / "dev"
        self.dev = None

    def start(self, *options):
        self.output = open(pathlib.Path(self.folder.name) / "out", "w+", encoding="utf-8")
        self.addCleanup(self.output.close)
        # A variable that daemons read too must not reach them.
        self.dev = subprocess.Popen([BIN / "signet", "dev", "--dir", self.dir, *options], stdout=self.output, stderr=self.output,
                                    env=dict(os.environ, SIGNET_LISTEN="127.0.0.1:1"))
        self.addCleanup(self.end)
        wait_for("signet dev ready", lambda: self.dev.poll() is not None or "Ctrl-C" in self.text(), 30)
        self.assertIsNone(self.dev.poll(), self.text())

    def end(self):
        self.dev.kill()
        self.dev.wait(20)
        wait_for("the daemons to end", lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in self.daemons()))

    def text(self):
        return pathlib.Path(self.output.name).read_text(encoding="utf-8")

    def daemons(self):
        return [int(pid) for pid in re.findall(r"pid (\d+)", self.text())]

    def signet(self, *arguments):
        environment = dict(os.environ, SIGNET_SERVER_SOCKET=str(self.dir / "server/admin.sock"),
                           SPIFFE_ENDPOINT_SOCKET=f"unix://{self.dir}/workload/api.sock")
        return subprocess.run([BIN / "signet", *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False)

    def assert_all_gone(self):
        wait_for("the daemons to end", lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in self.daemons()))
        self.assertFalse(self.dir.exists())

    def test_what_it_says_to_type_works(self):
        self.start("--trust-domain", "dev.example", "--x509-ttl", "20s")
        create = re.search(r"signet (entry create .*)", self.text()).group(1).replace("$(id -u)", str(os.getuid())).split()
        created = self.signet(*create)
        self.assertEqual(created.returncode, 0, created.stderr)
        wait_for("the SVID", lambda: "spiffe://dev.example/me" in self.signet("svid", "fetch").stdout)
        self.dev.send_signal(signal.SIGINT)
        self.assertEqual(self.dev.wait(20), 0, self.text())
        self.assert_all_gone()

    def test_a_daemon_that_dies_ends_it_all(self):
        self.start()
        os.kill(self.daemons()[0], signal.SIGKILL)
        self.assertEqual(self.dev.wait(20), 1)
        self.assertIn("signet-server ended", self.text())
        self.assert_all_gone()

    def test_killed_it_takes_its_daemons_along_and_can_be_started_again(self):
        self.start()
        self.end()
        self.assertTrue(self.dir.exists())
        self.start()
        self.dev.send_signal(signal.SIGTERM)
        self.assertEqual(self.dev.wait(20), 0, self.text())
        self.assert_all_gone()

    def test_refuses_the_folder_of_a_living_run(self):
        self.start()
        done = self.signet("dev", "--dir", str(self.dir))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"in use by process {self.dev.pid}", done.stderr)
        self.assertTrue((self.dir / "workload/api.sock").exists())

    def test_refuses_a_folder_with_something_in_it(self):
        self.dir.mkdir()
        (self.dir / "precious").write_text("x")
        done = self.signet("dev", "--dir", str(self.dir))
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not empty", done.stderr)
        self.assertEqual((self.dir / "precious").read_text(), "x")


if __name__ == "__main__":
    unittest.main(verbosity=2)
