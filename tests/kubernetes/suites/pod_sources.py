"""The agent's other source of pods, and its opt-in: the node's kubelet in place of the API server's watch, and namespaces' labels."""

import json
import re

from cluster import images
from cluster.signet import CHART, NAMESPACE, SOCKET_MOUNT, SOCKET_VOLUME
from harness.process import wait_until
from harness.results import require

_PODS = "sources"


def run(results, context):
    with results.check("starts", abort=True):
        node, signet = context.node(), context.signet()
        node.import_image(images.workload(context.folder("images")))
        node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _PODS, "labels": {"team": "blue"}}})
        signet.create_entry("source/account", f"k8s:ns:{_PODS}", "k8s:sa:default")
        labelled = signet.create_entry("source/team", "k8s:ns-label:team:blue")
        _upgrade(node, signet, "namespaceLabels=true")
    with results.check("svid_by_the_labels_of_the_namespace"):
        _start(node, "first")
        wait_until("an SVID by the namespace's label", lambda: labelled in _svids(node, "first"))
    with results.check("label_of_the_namespace_taken_away"):
        node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _PODS, "labels": {"team": "red"}}})
        wait_until("no SVID by the label that was", lambda: labelled not in _svids(node, "first"))
    with results.check("kubelet_answers_with_the_chart_s_rights"):
        _upgrade(node, signet, "source=kubelet")
        may = node.kubectl("auth", "can-i", "--list", "--as", f"system:serviceaccount:{NAMESPACE}:signet-agent").stdout
        require("nodes/pods" in may and "nodes/proxy" not in may, f"the agent may {may}")
        wait_until("an SVID of a pod from before", lambda: _svids(node, "first"))
    with results.check("new_pod_by_the_kubelet"):
        _start(node, "second")
        require(_svids(node, "second"), "its first call gave nothing")
    with results.check("ends"):
        node.delete_namespace(_PODS)


def _upgrade(node, signet, setting):
    node.helm("upgrade", "signet", CHART, "-n", NAMESPACE, "--reuse-values", "--set", f"agent.workloadAttestors.k8s.{setting}")
    node.kubectl("-n", NAMESPACE, "rollout", "restart", "daemonset/signet-agent")
    node.kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/signet-agent", "--timeout=90s")
    signet.agent_pod()


def _start(node, name):
    node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": _PODS, "labels": {"app": name}}, "spec": {
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": images.WORKLOAD, "imagePullPolicy": "Never", "command": ["sleep", "100000"],
                        "volumeMounts": [SOCKET_MOUNT]}], "volumes": [SOCKET_VOLUME]}})
    node.wait_pods(_PODS, f"app={name}")


def _svids(node, pod):
    done = node.exec(_PODS, pod, "signet", "svid", "fetch", "--output", "json", check=False)
    return sorted(re.findall(r'"spiffe_?[Ii]d": *"([^"]+)"', done.stdout)) if done.returncode == 0 and json.loads(done.stdout) else []
