"""The agent's knowledge of pods while its API server, or kubelet, is away, slow, wrong or hostile; and 250 pods that come and go.

An API server alone with pods that the suite writes, and processes in cgroups as the kubelet would make them: so only in namespaces.
"""

import contextlib
import json
import re
import secrets
import sys

from cluster import fault_proxy, pki
from cluster.fault_proxy import FaultProxy
from cluster.local import AGENT_ACCOUNT, LocalSignet, NAMESPACE, SERVER_ACCOUNT, account_kubeconfig, apply_rights, reason, write_token
from harness.process import run as run_program
from harness.process import wait_until
from harness.results import Failure, require

from .attack import CALLER, Made
from .psat import agent_pod, agent_token

_NODE = "pods-node"
_PODS = "/api/v1/pods"
_HEALTH = "k8s_pods"
_CROWD = 250


def run(results, context):
    folder = context.folder("podf")
    with results.check("starts", abort=True):
        api = context.api()
        apply_rights(api)
        api.make_node(_NODE)
        pods = Pods(folder, api)
    try:
        with results.check("known_pod_is_served", abort=True):
            pods.start()
            pods.served(pods.make("first"))
        for name, (words, fault, says) in faults().items():
            with results.check(f"watch_{name}"):
                pods.lives_through(lambda w=words, f=fault: pods.proxy.fault(w, f), pods.proxy.clear, says)
        for name, check in {"watch_410_lists_anew": gone, "watch_cut_goes_on": cut, "list_of_50_mib": huge_list,
                            "wrong_certificate": wrong_certificate, "token_file_missing": token_missing, "token_file_empty": token_empty,
                            "api_server_stopped": stopped, "250_pods_come_and_go": churn}.items():
            with results.check(name):
                check(pods)
        pods.agent.stop()
        with results.check("node_of_another_name_knows_no_pod"):
            renamed(pods)
        with results.check("kubelet_hangs"):
            kubelet(pods)
    finally:
        with results.check("ends_without_a_token_in_a_log"):
            pods.close()


def faults():
    """name -> (words of the path, what is answered, what health must say)."""
    return {
        "500": (_PODS, fault_proxy.Status(500), "made by the test"),
        "401": (_PODS, fault_proxy.Status(401, "Unauthorized"), "Unauthorized.*token is mounted"),
        "403": (_PODS, fault_proxy.Status(403, 'cannot watch resource "pods"'), "cannot watch.*rights to list and watch"),
        "429": (_PODS, fault_proxy.Status(429, "slow down", {"Retry-After": "1"}), "slow down.*less often"),
        "hang": (_PODS, fault_proxy.Hang(), "timed out|[Tt]imeout was reached|deadline|no answer"),
    }


class Pods:
    """One agent that watches pods by the proxy and with a token file, and processes in their cgroups."""

    def __init__(self, folder, api):
        self.folder, self.api = folder, api
        self.proxy = FaultProxy(api)
        self.token_file = folder / "agent.token"
        self.good = api.token(NAMESPACE, AGENT_ACCOUNT, seconds=3600)
        write_token(self.token_file, self.good)
        self.config = folder / "agent.kubeconfig"
        self.reach(self.proxy.url)
        self.signet = LocalSignet(folder / "signet", {"main": {
            "service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"],
            "kube_config_file": str(account_kubeconfig(api, SERVER_ACCOUNT, name="pods-server"))}})
        self.token = agent_token(api, agent_pod(api, "pod-faults", node=_NODE))
        self.agent = None
        self.entry = None

    def reach(self, url):
        """Points the agent's kubeconfig, which it reads again, to another place."""
        text = self.api.kubeconfig("x", name="pods-template", token="x", server=url).read_text()
        write_token(self.config, re.sub(r'"token": "x"', f'"tokenFile": "{self.token_file}"', text))

    def start(self, node_name=_NODE, source=None):
        source = source or f"kube_config_file: {self.config}"
        self.signet.system.agent_options = f"workload_attestors: {{k8s: {{node_name: {node_name}, {source}}}}}"
        self.agent = self.signet.agent(self.token)
        self.agent.spawn()
        wait_until("a ready agent", self.agent.is_ready)
        if not self.entry:
            self.entry = self.signet.system.create_entry("/app", "k8s:ns:pods", "k8s:sa:app")

    def make(self, name):
        """A pod of one container; (its cgroup's path, its name)."""
        container = secrets.token_hex(32)
        pod = self.api.make_pod("pods", name, _NODE, "app", container_ids=[container])
        return f"kubepods/besteffort/pod{pod['metadata']['uid']}/{container}", name

    def delete(self, pod):
        self.api.delete_pod("pods", pod[1])

    def ids(self, pod, timeout=30):
        """What a process in the pod is given; waits for it as long as the agent does."""
        with Made(pod[0]) as cgroups:
            done = run_program([sys.executable, CALLER, self.signet.system.workload, "call", *cgroups], timeout=timeout)
        return json.loads(done.stdout)["ids"]

    def served(self, pod):
        try:  # the agent's longest pause between two tries is half a minute
            wait_until(f"an SVID in pod {pod[1]}", lambda: self.ids(pod) == ["spiffe://example.org/app"], timeout=50)
        except Failure as error:
            raise Failure(f"{error}; health: {reason(self.agent)!r}\n{self.agent.log_text()[-1200:]}") from None

    def lives_through(self, begin, end, says):
        """Health tells of the fault; whom the agent knows it serves; a pod of that time is served when all is well."""
        known = self.make(f"known-{secrets.token_hex(3)}")
        self.served(known)
        begin()
        with contextlib.ExitStack() as healing:
            healing.callback(end)
            self.proxy.cut_streams()
            try:
                wait_until(f"health that says {says!r}", lambda: re.search(says, reason(self.agent, _HEALTH)), timeout=40)
            except Failure as error:
                raise Failure(f"{error}; it says {reason(self.agent)!r}") from None
            require(self.ids(known) == ["spiffe://example.org/app"], "a pod that was known is not served")
        late = self.make(f"late-{secrets.token_hex(3)}")
        self.served(late)
        wait_until("good health", lambda: not reason(self.agent, _HEALTH), timeout=40)
        self.delete(known)
        self.delete(late)

    def metric(self, name):
        found = re.search(rf"^{name} (\S+)$", self.agent.http("/metrics")[1], re.M)
        return float(found[1]) if found else None

    def close(self):
        if self.agent:
            self.agent.kill()
        self.proxy.close()
        self.signet.stop()


def gone(pods):
    """Each watch begins with 410: the agent lists anew, slower and slower, and still learns of pods."""
    before = len(pods.proxy.requests)
    pods.proxy.fault(f"{_PODS} watch=1", fault_proxy.GoneInWatch())
    try:
        wait_until("two lists", lambda: pods.proxy.seen(f"{_PODS} limit=", after=before) >= 2)
        pods.served(pods.make("after-410"))
        require(pods.proxy.seen(_PODS, after=before) < 100, "it asks in a loop without a pause")
    finally:
        pods.proxy.clear()


def cut(pods):
    """Every watch's connection ends after some events, in the middle of a line: what came whole counts, and it goes on from there."""
    pods.proxy.fault(f"{_PODS} watch=1", fault_proxy.Cut(after=3000))
    try:
        for number in range(3):
            pods.served(pods.make(f"cut-{number}"))
    finally:
        pods.proxy.clear()
    wait_until("good health", lambda: not reason(pods.agent, _HEALTH), timeout=40)


def huge_list(pods):
    def begin():
        pods.proxy.fault(f"{_PODS} limit=", fault_proxy.Huge())
        pods.proxy.fault(f"{_PODS} watch=1", fault_proxy.GoneInWatch())
    before = resident(pods.agent)
    pods.lives_through(begin, pods.proxy.clear, "bytes|large|MiB|more than|cap")
    require(resident(pods.agent) < before + 64, f"the agent grew from {before:.0f} to {resident(pods.agent):.0f} MiB")


def wrong_certificate(pods):
    stranger = pki.Authority(pods.folder / "stranger").issue("server", "kube-apiserver", usage="serverAuth", sans=["IP:127.0.0.1"])
    proxy = FaultProxy(pods.api, stranger)
    try:
        pods.lives_through(lambda: pods.reach(proxy.url), lambda: pods.reach(pods.proxy.url), "certificate|SSL|TLS")
        require(not proxy.requests, "a request, with its token, was sent to a server of a wrong certificate")
    finally:
        proxy.close()


def token_missing(pods):
    pods.lives_through(pods.token_file.unlink, lambda: write_token(pods.token_file, pods.good), "agent.token")


def token_empty(pods):
    pods.lives_through(lambda: write_token(pods.token_file, ""), lambda: write_token(pods.token_file, pods.good), "agent.token")


def stopped(pods):
    pods.lives_through(pods.api.stop, pods.api.start, "API server is away")


def churn(pods):
    """250 pods of the node, each replaced once; the agent keeps up, and its memory does not follow what is gone."""
    alive = [pods.make(f"crowd-{n}") for n in range(_CROWD)]
    known = len(pods.api.get(f"{_PODS}?fieldSelector=spec.nodeName%3D{_NODE}")["items"])
    wait_until("all pods known", lambda: pods.metric("signet_pods") == known)
    pods.served(alive[-1])
    before, old = resident(pods.agent), alive[0]
    for number, pod in enumerate(alive):
        pods.delete(pod)
        alive[number] = pods.make(f"again-{number}")
    wait_until("the new pods known and the old forgotten", lambda: pods.metric("signet_pods") == known)
    pods.served(alive[-1])
    require(pods.ids(old) == [], "a pod that is gone has an SVID")
    require(resident(pods.agent) < before + 32, f"the agent grew from {before:.0f} to {resident(pods.agent):.0f} MiB")
    for pod in alive:
        pods.delete(pod)


def renamed(pods):
    """An agent that believes in another node's name gives nobody an identity, and says whose pods it knows."""
    pod = pods.make("renamed")
    pods.start(node_name="old-name")
    try:
        require(pods.ids(pod) == [], "an SVID for a pod of another node")
        require("old-name" in pods.agent.log_text(), "the log does not name the node")
    finally:
        pods.agent.kill()


def kubelet(pods):
    """The same from a kubelet's /pods, which then hangs: other calls go on, health tells, and it recovers."""
    pod = pods.make("of-the-kubelet")
    proxy = FaultProxy(pods.api)
    items = json.dumps(pods.api.get(f"{_PODS}?fieldSelector=spec.nodeName%3D{_NODE}"))
    proxy.fault("/pods", fault_proxy.Body(items))
    address = proxy.url.removeprefix("https://")
    try:
        pods.start(source=f"kubelet: {{address: \"{address}\", server_name: localhost, ca_path: {pods.api.ca}, token_path: {pods.token_file}}}")
        pods.served(pod)
        proxy.fault("/pods", fault_proxy.Hang())
        wait_until("health that tells", lambda: "kubelet" in reason(pods.agent, _HEALTH), timeout=60)
        require(pods.ids(pod) == ["spiffe://example.org/app"], "a pod that was known is not served")
        proxy.clear()
        proxy.fault("/pods", fault_proxy.Body(items))
        wait_until("good health", lambda: not reason(pods.agent, _HEALTH), timeout=60)
    finally:
        proxy.close()


def resident(daemon):
    """MiB of memory."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as source:
        return int(re.search(r"VmRSS:\s+(\d+)", source.read())[1]) / 1024
