"""The server against an API server that is away, slow, wrong or hostile: nobody is attested wrongly, health and log say what to do,
and all is well when it is.

The faults a real one cannot be made to show are made by a proxy in front of it (cluster/fault_proxy.py).
"""

import re
import time

from cluster import fault_proxy, pki
from cluster.api_server import claims_of
from cluster.fault_proxy import FaultProxy
from cluster.local import AGENT_ACCOUNT, LocalSignet, NAMESPACE, SERVER_ACCOUNT, apply_rights, write_token
from harness.process import free_port, wait_until
from harness.results import Failure, require

from .psat import agent_pod, agent_token

_NODE = "faults-node"
_REVIEW = "/tokenreviews"
_CONFIG_MAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps/signet-bundle"


def run(results, context):
    folder = context.folder("faults")
    with results.check("starts", abort=True):
        api = context.api()
        apply_rights(api)
        api.make_node(_NODE)
        faults = Faults(folder, api)
        api.ensure(f"/api/v1/namespaces/{NAMESPACE}/configmaps", {"metadata": {"name": "signet-bundle-short"}})
        short = LocalSignet(folder / "short", {"main": faults.options}, ca_ttl="60s", publish={"main": {
            "namespace": NAMESPACE, "config_map": "signet-bundle-short", "kube_config_file": str(api.admin)}})
        short.api = api
    try:
        for name, (words, fault, says) in answers().items():
            with results.check(f"attestation_{name}"):
                faults.attestation(words, fault, says)
        with results.check("attestation_slow_succeeds"):
            faults.proxy.fault(_REVIEW, fault_proxy.Slow(2))
            faults.attests()
        with results.check("hanging_api_server_delays_nobody_else"):
            faults.others_are_served()
        for name, check in {
                "connection_refused": away, "wrong_certificate": wrong_certificate, "token_file_missing": token_missing,
                "token_file_empty": token_empty, "api_server_stopped_and_started": stopped, "api_server_paused": paused,
                "clocks_apart": clocks_apart, "bundle_waits_for_the_api_server": bundle_waits}.items():
            with results.check(name):
                check(faults)
        bundle_follows(results, short)
    finally:
        with results.check("ends_without_a_token_in_a_log"):
            short.stop()
            faults.close()


def answers():
    """name -> (words of the path, what is answered, what health must say)."""
    return {
        "500": (_REVIEW, fault_proxy.Status(500), "made by the test|500"),
        "503": (_REVIEW, fault_proxy.Status(503), "made by the test|503"),
        "401": (_REVIEW, fault_proxy.Status(401, "Unauthorized"), "Unauthorized"),
        "403": (_REVIEW, fault_proxy.Status(403, 'cannot create resource "tokenreviews"'), "tokenreviews"),
        "429": (_REVIEW, fault_proxy.Status(429, "too many requests", {"Retry-After": "1"}), "too many requests|429"),
        "hang": (_REVIEW, fault_proxy.Hang(), "time|deadline|answer"),
        "50_mib": (_REVIEW, fault_proxy.Huge(), "large|more than|MiB|bytes"),
        "no_json": (_REVIEW, fault_proxy.Body("<html>a captive portal</html>"), "JSON|json|token ?review|answer"),
        "another_object": (_REVIEW, fault_proxy.Body('{"kind":"Pod","apiVersion":"v1"}'), "TokenReview|status|answer"),
        "deep_nesting": (_REVIEW, fault_proxy.Body("[" * 100000), "JSON|json|deep|nest|answer"),
        "cut_off": (_REVIEW, fault_proxy.Cut(after=60), "connection|closed|JSON|json|transfer|unavailable|recv"),
        "pod_503": (f"/namespaces/{NAMESPACE}/pods/", fault_proxy.Status(503), "pods"),
        "pod_huge": (f"/namespaces/{NAMESPACE}/pods/", fault_proxy.Huge(), "pods"),
        "node_hang": ("/api/v1/nodes/", fault_proxy.Hang(), "nodes"),
    }


class Faults:
    """A server that reaches its cluster by the proxy, and by a token file."""

    def __init__(self, folder, api):
        self.folder, self.api = folder, api
        folder.mkdir(parents=True, exist_ok=True)
        self.proxy = FaultProxy(api)
        self.token_file = folder / "server.token"
        self.good = api.token(NAMESPACE, SERVER_ACCOUNT, seconds=3600)
        write_token(self.token_file, self.good)
        self.config = folder / "server.kubeconfig"
        self.reach(self.proxy.url)
        self.options = {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"], "kube_config_file": str(self.config)}
        self.signet = LocalSignet(folder / "signet", {"main": self.options},
                                  publish={"main": {"namespace": NAMESPACE, "kube_config_file": str(self.config)}})
        self.token = agent_token(api, agent_pod(api, "faults", node=_NODE))
        wait_until("a good start", lambda: not self.signet.reason())

    def reach(self, url):
        """Points the server's kubeconfig, which it reads again, to another place."""
        text = self.api.kubeconfig("x", name="faults-template", token="x", server=url).read_text()
        write_token(self.config, re.sub(r'"token": "x"', f'"tokenFile": "{self.token_file}"', text))

    def attests(self, timeout=40):
        self.signet.forget_agents()
        agent = self.signet.agent(self.token)
        agent.spawn()
        try:
            wait_until("the agent attested", agent.is_ready, timeout=timeout)
        except Failure as error:
            raise Failure(f"{error}\n{agent.log_text()[-800:]}\n--- server:\n{self.signet.server.log_text()[-1500:]}") from None
        finally:
            agent.kill()
            self.proxy.clear()

    def attestation(self, words, fault, says):
        self.proxy.fault(words, fault)
        self.refused_then_attested(says, self.proxy.clear)

    def refused_then_attested(self, says, heal):
        """While the fault holds nobody is attested and health tells; once it is healed the same agent is, by itself."""
        self.signet.forget_agents()
        agent = self.signet.agent(self.token)
        agent.spawn()
        try:
            try:
                wait_until(f"health that says {says!r}", lambda: re.search(says, self.signet.reason("k8s_psat")), timeout=30)
            except Failure as error:
                raise Failure(f"{error}; it says {self.signet.reason()!r}; server: {self.signet.server.log_text()[-600:]}") from None
            require(not self.signet.agents(), "an agent was attested")
            require(agent.running(), f"the agent gave up: {agent.log_text()[-500:]}")
            heal()
            wait_until("the agent attested after it", agent.is_ready, timeout=60)
        finally:
            heal()
            agent.kill()
        wait_until("good health after it", lambda: not self.signet.reason("k8s_psat"))

    def others_are_served(self):
        """Six agents wait for an API server that hangs; meanwhile administration is quick."""
        self.proxy.fault(_REVIEW, fault_proxy.Hang())
        agents = [self.signet.agent(self.token) for _ in range(6)]
        try:
            for agent in agents:
                agent.spawn()
            wait_until("reviews that hang", lambda: self.proxy.seen(_REVIEW) >= 2)
            began = time.monotonic()
            self.signet.system.signet("agent", "list")
            self.signet.system.signet("bundle", "show", "--format", "spiffe")
            require(time.monotonic() - began < 5, f"two calls took {time.monotonic() - began:.1f} s")
        finally:
            for agent in agents:
                agent.kill()
            self.proxy.clear()

    def close(self):
        self.proxy.close()
        self.signet.stop()


def away(faults):
    faults.reach(f"https://127.0.0.1:{free_port()}")
    faults.refused_then_attested("connect|refused|unreachable", lambda: faults.reach(faults.proxy.url))


def wrong_certificate(faults):
    """Another authority's certificate of the right name, and the right authority's of another name."""
    stranger = pki.Authority(faults.folder / "stranger").issue("server", "kube-apiserver", usage="serverAuth", sans=["IP:127.0.0.1"])
    misnamed = faults.api.authority.issue("misnamed", "kube-apiserver", usage="serverAuth", sans=["DNS:elsewhere.example.org"])
    for certificate in (stranger, misnamed):
        proxy = FaultProxy(faults.api, certificate)
        try:
            faults.reach(proxy.url)
            faults.refused_then_attested("certificate|SSL|TLS", lambda: faults.reach(faults.proxy.url))
            require(not proxy.requests, "a request, with its token, was sent to a server of a wrong certificate")
        finally:
            proxy.close()


def token_missing(faults):
    faults.token_file.unlink()
    faults.refused_then_attested("server.token", lambda: write_token(faults.token_file, faults.good))


def token_empty(faults):
    write_token(faults.token_file, "")
    faults.refused_then_attested("server.token", lambda: write_token(faults.token_file, faults.good))


def stopped(faults):
    faults.api.stop()
    started = []

    def heal():
        if not started:
            started.append(True)
            faults.api.start()
    faults.refused_then_attested("connect|closed|unavailable|recv|reset|refused|[Ee]mpty reply", heal)


def paused(faults):
    faults.api.pause()
    faults.refused_then_attested("time|deadline|answer", faults.api.resume)


def clocks_apart(faults):
    """A token of an API server whose clock is half a minute ahead is good: only the API server judges its times."""
    claims = claims_of(faults.token)
    ahead = faults.api.sign_token({**claims, "iat": claims["iat"] + 40, "nbf": claims["nbf"] + 40, "exp": claims["exp"] + 40})
    faults.signet.forget_agents()
    faults.signet.attests(ahead)


def bundle_waits(faults):
    """A bundle that cannot be published while the API server does not serve is published when it does."""
    wait_until("the first bundle", lambda: "BEGIN" in published(faults.api))
    faults.proxy.fault("/configmaps", fault_proxy.Status(503))
    faults.api.patch(_CONFIG_MAP, {"data": None})
    faults.signet.restart()  # it publishes what it has at its start
    wait_until("health that tells", lambda: "503" in faults.signet.reason("bundle_publisher") or "made by" in faults.signet.reason("bundle_publisher"))
    faults.proxy.clear()
    wait_until("the bundle", lambda: "BEGIN" in published(faults.api), timeout=60)
    wait_until("good health", lambda: not faults.signet.reason("bundle_publisher"), timeout=60)


def bundle_follows(results, short):
    """A server of short-lived authorities: each new one is in the ConfigMap before it signs."""
    with results.check("each_new_authority_is_published"):
        def same():
            shown = short.system.run("bundle", "show", "--format", "pem", socket=short.system.admin).stdout
            data = short.api.get(f"{_CONFIG_MAP}-short").get("data", {}).get("bundle.crt", "")
            return shown.count("BEGIN CERT") >= 2 and sorted(shown.split()) == sorted(data.split())
        wait_until("a second authority in the ConfigMap", same, timeout=60)


def published(api):
    return api.get(_CONFIG_MAP).get("data", {}).get("bundle.crt", "")
