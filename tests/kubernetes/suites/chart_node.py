"""The chart on the node: what its pods use of the machine, what takes the agent's one capability, an upgrade of all."""

import datetime
import json
import re

from cluster import images
from cluster.signet import CHART, NAMESPACE, SOCKET_MOUNT, SOCKET_VOLUME
from harness.process import wait_until
from harness.results import note, require

CROWD = 20
_NAMESPACE = "chart-node"


def run(results, context):
    with results.check("starts", abort=True):
        node = context.node()
        signet = context.signet()
        node.import_image(images.workload(context.folder("images")))
        one = signet.create_entry("crowd", f"k8s:ns:{_NAMESPACE}")
    with results.check("bundle_configmap_keeps_no_pod_waiting_for_long"):
        agent = signet.agent_pod()
        began, ran = (_time(agent["metadata"]["creationTimestamp"]), _time(agent["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]))
        note(f"the agent's container started {ran - began} s after its pod was made; events: {waits(node)}")
        require(ran - began < 60, "it took a minute and more")
    with results.check("resources_are_as_the_chart_asks"):
        idle = {name: usage(node, name) for name in ("server", "agent")}
        crowd(node, CROWD)
        wait_until("SVIDs in all pods", lambda: all_hold(node), timeout=60, every=1)
        busy = {name: usage(node, name) for name in ("server", "agent")}
        for name in ("server", "agent"):
            asked = requests_of(signet, node, name)
            note(f"{name}: idle {idle[name] >> 10} KiB, with {CROWD} pods that hold an SVID {busy[name] >> 10} KiB; requests {asked >> 10} KiB")
            require(busy[name] < asked, f"{name} uses {busy[name]} bytes and asks for {asked}")
        node.delete_namespace(_NAMESPACE)
    crowd(node, 1)
    with results.check("without_sys_ptrace_other_users_are_refused"):
        upgrade(node, {"agent": {"securityContext": {"capabilities": {"add": None}}}})
        wait_until("a refusal that says what is missing", lambda: "needs CAP_SYS_PTRACE" in fetch(node), timeout=40)
    with results.check("upgrade_gives_it_back"):
        upgrade(node, {"agent": {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}, "server": {"logLevel": "debug"}})
        wait_until("the SVID", lambda: one in fetch(node), timeout=60)
        upgrade(node, {"server": {"logLevel": "info"}})
    with results.check("ends"):
        node.delete_namespace(_NAMESPACE)


def upgrade(node, values):
    """Of the installed release, which keeps what it was given."""
    file = node.folder / "upgrade.json"
    file.write_text(json.dumps(values))
    node.helm("upgrade", "signet", CHART, "-n", NAMESPACE, "--reset-then-reuse-values", "--values", file)
    for what in ("statefulset/signet-server", "daemonset/signet-agent"):
        node.kubectl("-n", NAMESPACE, "rollout", "status", what, "--timeout=90s")


def crowd(node, count):
    """`count` pods of one user that hold on to the Workload API."""
    node.apply({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crowd", "namespace": _NAMESPACE}, "spec": {
            "replicas": count, "selector": {"matchLabels": {"app": "crowd"}}, "template": {"metadata": {"labels": {"app": "crowd"}}, "spec": {
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
                "containers": [{"name": "c", "image": images.WORKLOAD, "imagePullPolicy": "Never",
                                "command": ["sh", "-c", "exec signet svid watch"],
                                "securityContext": {"runAsUser": 20004, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                                "volumeMounts": [SOCKET_MOUNT]}],
                "volumes": [SOCKET_VOLUME]}}}}]})
    node.wait_pods(_NAMESPACE, "app=crowd", count=count, timeout=180)


def all_hold(node):
    logs = {p["metadata"]["name"]: node.logs(_NAMESPACE, p["metadata"]["name"], "--tail=20") for p in node.pods(_NAMESPACE, "app=crowd")}
    without = [name for name, log in logs.items() if "/crowd" not in log]
    require(not without, f"{len(without)} of {len(logs)} have none; {without[:1]} says {[logs[n][-300:] for n in without[:1]]}")
    return True


def fetch(node):
    pod = node.wait_pods(_NAMESPACE, "app=crowd")[0]["metadata"]["name"]
    done = node.exec(_NAMESPACE, pod, "signet", "svid", "fetch", "--output", "json", check=False)
    return done.stdout + done.stderr


def usage(node, component):
    """Working set in bytes, as the kubelet counts it."""
    summary = node.api.get(f"/api/v1/nodes/{node.name}/proxy/stats/summary")
    for pod in summary["pods"]:
        if pod["podRef"]["namespace"] == NAMESPACE and f"-{component}-" in pod["podRef"]["name"]:
            return pod["containers"][0]["memory"]["workingSetBytes"]
    require(False, f"no figures of {component}: {[p['podRef']['name'] for p in summary['pods']]}")


def requests_of(signet, node, component):
    pod = signet.agent_pod() if component == "agent" else node.wait_pods(NAMESPACE, "app.kubernetes.io/component=server")[0]
    number, unit = re.fullmatch(r"(\d+)([KMG]i)", pod["spec"]["containers"][0]["resources"]["requests"]["memory"]).groups()
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


def waits(node):
    events = node.api.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    return sum(e.get("count", 1) for e in events if "references non-existent config key" in e.get("message", ""))


def _time(text):
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
