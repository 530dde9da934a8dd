"""The whole on a real node: the chart installed, the agent attested by its projected token, pods with SVIDs that rotate and do mTLS."""

import os
import pathlib
import re
import signal

from cluster import images, toolchain
from cluster.node import restarts
from cluster.signet import NAMESPACE, SOCKET_MOUNT, SOCKET_VOLUME, TRUST_DOMAIN
from harness.process import run as run_program
from harness.process import wait_until
from harness.results import Failure, require

EXAMPLE = toolchain.HERE.parent.parent / "deploy" / "kubernetes" / "example"
APPS = "apps"
_ROTATION = "20s"  # life of the example's SVIDs here, where it says 5m


def run(results, context):
    with results.check("installs_and_attests_by_projected_token", abort=True):
        node = context.node()
        signet = context.signet()
        node.import_image(images.workload(context.folder("images")))
        uid = node.api.get(f"/api/v1/nodes/{node.name}")["metadata"]["uid"]
        require(signet.agent_id == f"spiffe://{TRUST_DOMAIN}/spire/agent/k8s_psat/{signet.cluster}/{uid}", f"the agent is {signet.agent_id}")
    with results.check("bundle_is_published"):
        published = node.api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/signet-bundle")["data"]["bundle.crt"]
        shown = signet.signet("bundle", "show", "--format", "pem").stdout
        require(certificates(published) == certificates(shown) != [], "the ConfigMap holds another bundle than the server shows")
    with results.check("agent_is_not_privileged"):
        spec = signet.agent_pod()["spec"]
        require(spec.get("hostPID") and not spec["containers"][0]["securityContext"].get("privileged"), f"it is {spec}")
    pods_get_svids(results, node, signet)
    example = mtls(results, context, node, signet)
    deleted_pod_loses_its_stream(results, node)
    rolled(results, node, signet, example)
    with results.check("ends"):
        run_program([EXAMPLE / "run", "--delete"], env=example.environment, timeout=90)
        node.delete_namespace(APPS)
        for entry in signet.json("entry", "list")["entries"]:  # the next suite's pods have the same names
            signet.signet("entry", "delete", "--id", entry["id"])


# -- pods ---------------------------------------------------------------------------------------------------------------
def start(node, name, account, command=("sleep", "100000"), image=images.WORKLOAD, labels=None, wait=True):
    """A pod of namespace APPS that sees the Workload API."""
    node.apply({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": APPS}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": APPS}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": APPS, "labels": {"app": name, **(labels or {})}}, "spec": {
            "serviceAccountName": account, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "command": list(command),
                            "securityContext": {"runAsUser": 20003, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                            "volumeMounts": [SOCKET_MOUNT, {"name": "tmp", "mountPath": "/tmp"}]}],
            "volumes": [SOCKET_VOLUME, {"name": "tmp", "emptyDir": {}}]}}]})
    return node.wait_pods(APPS, f"app={name}")[0] if wait else None


def svids(node, pod):
    """The SPIFFE IDs a new process in the pod is given; refused: empty."""
    done = node.exec(APPS, pod, "signet", "svid", "fetch", "--output", "json", check=False)
    if done.returncode != 0:
        require("no identity" in done.stderr.lower() or "PERMISSION_DENIED" in done.stderr or "registered" in done.stderr,
                f"not a refusal: {done.stderr}")
        return []
    return sorted(set(re.findall(r'"spiffe_id": *"([^"]+)"', done.stdout)))


def pods_get_svids(results, node, signet):
    web = start(node, "web", "web", labels={"tier": "front"})
    start(node, "plain", "nobody")
    image_id = web["status"]["containerStatuses"][0]["imageID"]
    digest = image_id[image_id.index("sha256:"):]
    cases = {
        "service_account": ([f"k8s:ns:{APPS}", "k8s:sa:web"], "by-account"),
        "label": (["k8s:pod-label:tier:front"], "by-label"),
        "pod_name_and_node": (["k8s:pod-name:web", f"k8s:node-name:{node.name}"], "by-name"),
        "image_digest": ([f"k8s:ns:{APPS}", "k8s:sa:web", *image_selectors(web, digest)], "by-digest"),
    }
    for name, (selectors, path) in cases.items():
        with results.check(f"svid_by_{name}"):
            spiffe_id = signet.create_entry(path, *selectors)
            wait_until(f"the SVID {spiffe_id}", lambda wanted=spiffe_id: wanted in svids(node, "web"))
    with results.check("unregistered_pod_is_refused"):
        require(svids(node, "plain") == [], f"it was given {svids(node, 'plain')}")
    with results.check("wrong_digest_gives_nothing"):
        wrong = digest[:-4] + ("0000" if digest[-4:] != "0000" else "1111")
        spiffe_id = signet.create_entry("by-wrong-digest", "k8s:sa:web", *image_selectors(web, wrong))
        also = signet.create_entry("after-wrong-digest", "k8s:sa:web")
        wait_until("the entry made after it", lambda: also in svids(node, "web"))
        require(spiffe_id not in svids(node, "web"), "an SVID for another image's digest")
    with results.check("new_pod_has_its_svid_at_its_first_call"):
        # No retry in the pod: the first call, made as soon as the container runs, waits for what it needs to know.
        start(node, "first", "web", command=("sh", "-c", "signet svid fetch --output json > /tmp/out 2>&1; echo $? > /tmp/code; sleep 100000"))
        code = wait_until("the first call's end", lambda: node.exec(APPS, "first", "cat", "/tmp/code", check=False).stdout.strip())
        require(code == "0", f"it failed: {node.exec(APPS, 'first', 'cat', '/tmp/out').stdout}")


def image_selectors(pod, digest):
    """How the attestor names the image of the container: as the kubelet's status does, with this digest."""
    image_id = pod["status"]["containerStatuses"][0]["imageID"].split("://")[-1]
    return [f"k8s:container-image:{image_id[:image_id.index('sha256:')]}{digest}"]


# -- mTLS ---------------------------------------------------------------------------------------------------------------
class Example:
    """deploy/kubernetes/example as its README runs it, but for the life of its SVIDs; and what its two pods say."""

    def __init__(self, context, node, signet):
        self._node = node
        self.folder = context.folder("example")
        for file in EXAMPLE.iterdir():
            if file.is_file():
                text = file.read_text()
                if file.name == "entries.yaml":
                    text = text.replace("x509_ttl: 5m", f"x509_ttl: {_ROTATION}").replace("example-cluster", signet.cluster)
                if file.name == "workloads.yaml":
                    text = text.replace("--every, 5s", "--every, 500ms").replace("imagePullPolicy: IfNotPresent", "imagePullPolicy: Never")
                target = self.folder / file.name
                target.write_text(text)
                target.chmod(file.stat().st_mode)
        kubectl = toolchain.kubernetes("kubectl")
        self.environment = {"KUBECONFIG": str(node.api.admin), "PATH": f"{kubectl}:{os.environ['PATH']}"}

    def start(self):
        return run_program([self.folder / "run", toolchain.IMAGE], env=self.environment, timeout=180).stdout

    def lines(self, name):
        """What the deployment's one pod has said."""
        done = self._node.kubectl("-n", "signet-example", "logs", f"deployment/{name}", check=False)
        return done.stdout.splitlines()

    def held(self, name):
        """Serial numbers in the order they came."""
        return [m[1] for line in self.lines(name) if (m := re.search(r"holds .*serial (\S+)", line))]

    def answered(self):
        return sum(" answered" in line for line in self.lines("frontend"))

    def failed(self):
        """Calls that failed after the first that did not."""
        lines = self.lines("frontend")
        began = next((n for n, line in enumerate(lines) if " answered" in line), len(lines))
        return [line for line in lines[began:] if re.match(r"\S+ failed\b", line)]


def mtls(results, context, node, signet):
    with results.check("two_pods_do_mtls", abort=True):
        example = Example(context, node, signet)
        try:
            shown = example.start()
        except Failure as error:
            raise Failure(f"{error}\n{node.explain('signet-example')}") from None
        require("answered" in shown and "called" in shown, f"the example says {shown[-300:]!r}")
    with results.check("svids_rotate_under_mtls"):
        first = example.held("frontend")[0]
        wait_until("third SVIDs on both sides", lambda: min(len(set(example.held(n))) for n in ("frontend", "backend")) >= 3, timeout=90, every=1)
        seen = example.answered()
        wait_until("calls after that", lambda: example.answered() > seen)
        require(first != example.held("frontend")[-1], "the serial number is the same")
        require(not example.failed(), f"calls failed meanwhile: {example.failed()[:3]}")
    return example


def deleted_pod_loses_its_stream(results, node):
    with results.check("deleted_pod_loses_its_stream"):
        # The kubelet is stopped meanwhile, so that the process outlives its pod's object: only the agent can end its stream.
        pod = start(node, "doomed", "web", command=("sh", "-c", "signet svid watch --output json > /tmp/out 2>&1; echo ended >> /tmp/out; sleep 100000"))
        output = pathlib.Path(f"/proc/{node.container_pid(pod)}/root/tmp/out")
        wait_until("its SVID", lambda: output.exists() and "by-account" in output.read_text())
        held = len(output.read_text())
        node.kubelet.process.send_signal(signal.SIGSTOP)
        try:
            node.api.delete_pod(APPS, "doomed")
            wait_until("the stream's end", lambda: re.search(r"ended|PERMISSION_DENIED|no identity|withdrawn|lost", output.read_text()[held:], re.I))
        except Failure as error:
            raise Failure(f"{error}; it says {output.read_text()[held:][-500:]!r}") from None
        finally:
            node.kubelet.process.send_signal(signal.SIGCONT)


def rolled(results, node, signet, example):
    with results.check("pods_keep_their_svids_while_the_daemonset_is_rolled"):
        before, old = example.answered(), signet.agent_pod()["metadata"]["uid"]
        node.kubectl("-n", NAMESPACE, "rollout", "restart", "daemonset/signet-agent")
        node.kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/signet-agent", "--timeout=60s")
        agent = signet.agent_pod()
        require(agent["metadata"]["uid"] != old, "it is the old pod")
        wait_until("calls after it", lambda: example.answered() > before + 3)
        require(not example.failed(), f"calls failed meanwhile: {example.failed()[:3]}")
        held = len(example.held("frontend"))
        wait_until("an SVID from the new agent", lambda: len(example.held("frontend")) > held, timeout=40)
        for pod in node.pods("signet-example"):
            require(restarts(pod) == 0, f"{pod['metadata']['name']} was restarted")
    with results.check("same_agent_after_the_roll"):
        agents = signet.json("agent", "list")["agents"]
        require(len(agents) == 1, f"{len(agents)} agents: {agents}")
        wait_until("SVIDs from it", lambda: f"spiffe://{TRUST_DOMAIN}/by-account" in svids(node, "web"))
    with results.check("pods_keep_their_svids_while_server_and_agent_are_away"):
        before = example.answered()
        node.kubectl("-n", NAMESPACE, "delete", "pod", signet.server_pod, "--wait=false")
        node.kubectl("-n", NAMESPACE, "rollout", "restart", "daemonset/signet-agent")
        node.kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/signet-agent", "--timeout=60s")
        node.wait_pods(NAMESPACE, "app.kubernetes.io/component=server", timeout=60)
        wait_until("calls after it", lambda: example.answered() > before + 3)
        require(not example.failed(), f"calls failed meanwhile: {example.failed()[:3]}")


def certificates(pem):
    return sorted("".join(c.split()) for c in re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END", pem, re.S))
