"""Signet on the node as the chart installs it, with an image of the programs under test."""

import json
import pathlib

from harness.process import wait_until
from harness.results import Failure, require

from . import toolchain

CHART = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "kubernetes" / "chart" / "signet"
TRUST_DOMAIN = "example.org"
NAMESPACE = "signet"
CLUSTER = "example-cluster"
SOCKET = "/run/signet/workload/api.sock"  # on the node, and in pods that mount SOCKET_VOLUME
SOCKET_VOLUME = {"name": "workload-api", "hostPath": {"path": "/run/signet/workload", "type": "Directory"}}
SOCKET_MOUNT = {"name": "workload-api", "mountPath": "/run/signet/workload", "readOnly": True}


class Signet:
    """Installs the chart on the node and waits until server and agent are ready. `values`: merged over those that a node of
    one machine needs; see the chart's values.yaml."""

    def __init__(self, node, values=None):
        self._node, self.cluster = node, CLUSTER
        node.import_image(toolchain.image())
        everything = {
            "trustDomain": TRUST_DOMAIN, "clusterName": CLUSTER,
            "image": {"repository": toolchain.IMAGE.partition(":")[0], "tag": toolchain.IMAGE.partition(":")[2], "pullPolicy": "Never"},
            "server": {"persistence": {"storageClass": ""}},
            **(values or {})}
        make_volume(node)
        file = node.folder / "signet-values.json"
        file.write_text(json.dumps(everything))
        node.helm("install", "signet", CHART, "-n", NAMESPACE, "--create-namespace", "--values", file)
        self.server_pod = node.wait_pods(NAMESPACE, "app.kubernetes.io/component=server", timeout=90)[0]["metadata"]["name"]
        self.agent_pod()
        self.agent_id = wait_until("an attested agent", self._attested)

    def agent_pod(self):
        return self._node.wait_pods(NAMESPACE, "app.kubernetes.io/component=agent", timeout=90)[0]

    def agent_pid(self):
        """Of the agent, as the node sees it."""
        return self._node.container_pid(self.agent_pod())

    def signet(self, *arguments, check=True):
        """The operator's tool, in the server's pod."""
        return self._node.exec(NAMESPACE, self.server_pod, "signet", *arguments, check=check)

    def json(self, *arguments):
        return json.loads(self.signet(*arguments, "--output", "json").stdout)

    def create_entry(self, path, *selectors, x509_ttl="1h"):
        """An entry below the agent; returns its SPIFFE ID."""
        spiffe_id = f"spiffe://{TRUST_DOMAIN}/{path}"
        chosen = [word for selector in selectors for word in ("--selector", selector)]
        self.signet("entry", "create", "--parent-id", self.agent_id, "--spiffe-id", spiffe_id, "--x509-ttl", x509_ttl, *chosen)
        return spiffe_id

    def logs(self, pod=None):
        return self._node.logs(NAMESPACE, pod or self.agent_pod()["metadata"]["name"])

    def _attested(self):
        agents = self.json("agent", "list").get("agents", [])
        require(len(agents) == 1, f"there are {len(agents)} agents")
        found = agents[0]["id"]
        if "path" not in found:
            raise Failure(f"an agent without an id: {found}")
        return f"spiffe://{found.get('trustDomain', found.get('trust_domain', TRUST_DOMAIN))}{found['path']}"


def make_volume(node):
    """A volume for the server's claim, in place of a cluster's provisioner: a folder of the node."""
    folder = node.folder / "signet-volume"
    folder.mkdir(exist_ok=True)
    node.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "signet"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}]}]}}}})
