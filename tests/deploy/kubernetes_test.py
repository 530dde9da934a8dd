"""What deploy/kubernetes ships, held against the code: its configurations are valid, its metrics exist.

What helm and an API server say of it is the suite `chart` of tests/kubernetes.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy" / "kubernetes"
MANIFESTS = HERE / "manifests" / "signet.yaml"
DASHBOARD = HERE / "chart" / "signet" / "dashboards" / "signet.json"


def config_in(text, name):
    """The block of text that a ConfigMap holds under the key `name`."""
    found = re.search(rf"^  {re.escape(name)}: \|\n((?:    .*\n|\n)+)", text, re.M)
    assert found, f"no {name} in it"
    return "".join(line[4:] or "\n" for line in found.group(1).splitlines(keepends=True))


def validate(program, config, folder):
    """Runs `PROGRAM validate` on a configuration whose paths below /var and /run are moved into `folder`."""
    # What a pod has and this machine has not: the projected token.
    token = folder / "var/run/secrets/tokens/signet-agent"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("a.b.c")
    file = folder / f"{program}.yaml"
    file.write_text(re.sub(r"(?<=: )(/(?:var|run)/)", rf"{folder}\1", config))
    binary = pathlib.Path(os.environ["SIGNET_BIN_DIR"]) / program
    environment = dict(os.environ, MY_NODE_NAME="node1")  # as the DaemonSet sets it
    return subprocess.run([binary, "validate", "--config", file], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env=environment)


class ConfigTest(unittest.TestCase):
    def check(self, program, name):
        with tempfile.TemporaryDirectory() as folder:
            done = validate(program, config_in(MANIFESTS.read_text(), name), pathlib.Path(folder))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("warning", done.stdout)

    def test_server_takes_its_configuration(self):
        self.check("signet-server", "server.yaml")

    def test_agent_takes_its_configuration(self):
        self.check("signet-agent", "agent.yaml")


class DashboardTest(unittest.TestCase):
    def test_names_only_metrics_that_exist(self):
        known = set()
        for source in ("server/metrics.cc", "agent/metrics.cc"):
            for kind, name in re.findall(r'Add(Counter|Gauge|Histogram)\(\s*"(\w+)"', (ROOT / source).read_text()):
                known |= {f"signet_{name}{suffix}" for suffix in (("_bucket", "_sum", "_count") if kind == "Histogram" else ("",))}
        self.assertGreater(len(known), 20)
        used = set(re.findall(r"signet_\w+", DASHBOARD.read_text()))
        self.assertGreater(len(used), 15)
        self.assertEqual(used - known, set(), "the dashboard asks for metrics that nothing exports")


if __name__ == "__main__":
    unittest.main()
