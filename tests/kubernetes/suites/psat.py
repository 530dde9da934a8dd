"""Node attestation by real projected tokens of a real API server: what is accepted, what is refused, and what an agent is then."""

import pathlib
import time

from cluster.api_server import ApiServer, claims_of
from cluster.local import AGENT_ACCOUNT, AUDIENCE, LocalSignet, NAMESPACE, SERVER_ACCOUNT, account_kubeconfig, apply_rights, selectors, spiffe_id, \
    write_token
from harness.process import wait_until
from harness.results import require

_PREFIX = "spiffe://example.org/spire/agent/k8s_psat"
_NODE = "psat-node"


def run(results, context):
    folder = context.folder("psat")
    with results.check("starts", abort=True):
        api = context.api()
        apply_rights(api)
        other = ApiServer(folder / "other", issuer=api.issuer)  # whose tokens differ in the key alone
        apply_rights(other)
        node = api.make_node(_NODE, {"zone": "a", "secret": "b"})
        cluster = {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"], "allowed_node_label_keys": ["zone"],
                   "allowed_pod_label_keys": ["tier"], "kube_config_file": str(account_kubeconfig(api, SERVER_ACCOUNT))}
        second = {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"], "audience": ["our-own"], "use_pod_uid_for_agent_id": True,
                  "kube_config_file": str(account_kubeconfig(other, SERVER_ACCOUNT))}
        signet = LocalSignet(folder / "signet", {"main": cluster, "second": second})
    try:
        accepted(results, api, other, signet, node)
        refused(results, api, other, signet)
        changing(results, folder, api, signet)
    finally:
        with results.check("no_token_in_a_log"):
            signet.stop()
        other.close()


def agent_pod(api, name, node=_NODE, account=AGENT_ACCOUNT, namespace=NAMESPACE):
    return api.make_pod(namespace, name, node, account, labels={"tier": "system", "other": "x"})


def agent_token(api, pod, audience=AUDIENCE):
    return api.token(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"], audience, pod=pod)


def accepted(results, api, other, signet, node):
    pod = agent_pod(api, "good")
    with results.check("attests_with_spires_id_and_selectors", abort=True):
        agent = signet.attests(agent_token(api, pod))
        uid = node["metadata"]["uid"]
        require(spiffe_id(agent["id"]) == f"{_PREFIX}/main/{uid}", f"its id is {agent['id']}")
        wanted = sorted(f"k8s_psat:{s}" for s in (
            "cluster:main", f"agent_ns:{NAMESPACE}", f"agent_sa:{AGENT_ACCOUNT}", "agent_pod_name:good",
            f"agent_pod_uid:{pod['metadata']['uid']}", "agent_pod_label:tier:system", f"agent_node_name:{_NODE}",
            f"agent_node_uid:{uid}", "agent_node_label:zone:a"))
        got = [s for s in selectors(agent) if ":agent_node_ip:" not in s]
        require(got == wanted, f"selectors {got}, wanted {wanted}")
    with results.check("attests_again_as_the_same"):
        agent = signet.attests(agent_token(api, pod))
        require(spiffe_id(agent["id"]) == f"{_PREFIX}/main/{node['metadata']['uid']}", f"its id is {agent['id']}")
        require(len(signet.agents()) == 1, f"there are {len(signet.agents())} agents")
    with results.check("second_cluster_by_its_own_audience_and_pod_id"):
        other.make_node(_NODE)
        theirs = agent_pod(other, "good")
        agent = signet.attests(agent_token(other, theirs, "our-own"), "second")
        require(spiffe_id(agent["id"]) == f"{_PREFIX}/second/pod/{theirs['metadata']['uid']}", f"its id is {agent['id']}")


def refused(results, api, other, signet):
    pod = agent_pod(api, "tried")
    good = agent_token(api, pod)
    claims = claims_of(good)
    now = int(time.time())

    def forged(**changes):
        return api.sign_token({**claims, **{k: v for k, v in changes.items() if k != "kubernetes"},
                               "kubernetes.io": {**claims["kubernetes.io"], **changes.get("kubernetes", {})}})

    with results.check("a_token_signed_by_the_suite_is_good_as_it_is"):
        signet.attests(forged())  # or the refusals below would show nothing
    cases = {
        "wrong_audience": (agent_token(api, pod, "someone-else"), "main", "audience|invalid|not authenticated"),
        "audience_of_the_api_server": (agent_token(api, pod, None), "main", "audience|invalid|not authenticated"),
        "account_not_on_the_list": (agent_token(api, agent_pod(api, "other-account", account="default")), "main", "allow_list"),
        "same_account_name_in_another_namespace": (
            agent_token(api, agent_pod(api, "elsewhere", namespace="elsewhere")), "main", "allow_list"),
        "token_of_no_pod": (api.token(NAMESPACE, AGENT_ACCOUNT, AUDIENCE), "main", "pod"),
        "other_clusters_issuer": (agent_token(other, agent_pod(other, "tried")), "main", "not authenticated|invalid"),
        "right_token_for_another_cluster": (good, "second", "not authenticated|invalid|audience"),
        "unknown_cluster": (good, "third", "third"),
        "expired": (forged(exp=now - 120, iat=now - 900, nbf=now - 900), "main", "not authenticated|invalid|expired"),
        "other_node_claimed": (forged(kubernetes={"node": {"name": "rich-node", "uid": "11111111-2222-3333-4444-555555555555"}}),
                               "main", "node"),
        "other_node_uid_claimed": (forged(kubernetes={"node": {"name": _NODE, "uid": "11111111-2222-3333-4444-555555555555"}}),
                                   "main", "node"),
        "other_pod_uid_claimed": (forged(kubernetes={"pod": {"name": "tried", "uid": "11111111-2222-3333-4444-555555555555"}}),
                                  "main", "not authenticated|invalid|pod"),
        "tampered": (good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB"), "main", "not authenticated|invalid"),
        "not_a_token": ("nonsense", "main", "token"),
        "empty_file": ("\n", "main", "empty"),
    }
    for name, (token, cluster, words) in cases.items():
        with results.check(f"refuses_{name}"):
            signet.refusal(token, cluster, words)
    with results.check("refuses_missing_file"):
        agent = signet.agent("x", name="missing")
        (signet.folder / "missing.token").unlink()
        agent.spawn()
        try:
            wait_until("its sentence", lambda: "missing.token" in agent.log_text())
        finally:
            agent.kill()
    with results.check("refuses_pod_made_anew_with_the_same_name"):
        api.delete_pod(NAMESPACE, "tried")
        agent_pod(api, "tried")
        signet.refusal(good, words="pod|invalid|not authenticated")
    with results.check("refuses_deleted_pod"):
        # At once, though the API server itself still says yes for ten seconds: it has the review in its cache.
        pod = agent_pod(api, "short-lived")
        token = agent_token(api, pod)
        signet.attests(token)
        api.delete_pod(NAMESPACE, "short-lived")
        signet.forget_agents()
        signet.refusal(token, words="gone|invalid|not authenticated")
    with results.check("refuses_pod_whose_node_is_gone"):
        api.make_node("leaving")
        token = agent_token(api, agent_pod(api, "on-leaving", node="leaving"))
        api.delete("/api/v1/nodes/leaving")
        signet.refusal(token, words="node")
    with results.check("refuses_node_made_anew_with_the_same_name"):
        api.make_node("renewed")
        token = agent_token(api, agent_pod(api, "on-renewed", node="renewed"))
        api.delete("/api/v1/nodes/renewed")
        api.make_node("renewed")
        signet.refusal(token, words="node")
    with results.check("refuses_ended_pod"):
        pod = agent_pod(api, "ended")
        token = agent_token(api, pod)
        api.patch(f"/api/v1/namespaces/{NAMESPACE}/pods/ended/status", {"status": {"phase": "Succeeded"}})
        signet.refusal(token, words="ended|invalid|not authenticated")


def changing(results, folder, api, signet):
    """A running agent and server whose files change under them."""
    pod = agent_pod(api, "steady")
    agent = signet.agent(agent_token(api, pod), name="steady")
    agent.start()
    path = signet.folder / "steady.token"
    try:
        with results.check("agent_reads_its_token_at_each_attestation"):
            write_token(path, "")
            signet.forget_agents()
            wait_until("the agent to miss its token", lambda: "empty" in agent.log_text())
            write_token(path, agent_token(api, pod))
            wait_until("the agent attested anew", lambda: signet.agents() and agent.is_ready(), timeout=40)
    finally:
        agent.stop()
    with results.check("server_reads_its_credentials_when_they_change"):
        config = folder / "psat-server.kubeconfig"
        kubeconfig = pathlib.Path(account_kubeconfig(api, SERVER_ACCOUNT, name="changing"))
        text = kubeconfig.read_text()
        cluster = {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"], "kube_config_file": str(config)}
        write_token(config, text.replace('"token": "', '"token": "x'))
        local = LocalSignet(folder / "changing", {"main": cluster})
        try:
            agent = local.agent(agent_token(api, pod), name="waiting")
            agent.spawn()
            wait_until("a 401 in the server's log", lambda: "401" in local.server.log_text() or "Unauthorized" in local.server.log_text())
            require("401" in local.reason("k8s_psat") or "Unauthorized" in local.reason("k8s_psat"), f"health says {local.reason()!r}")
            write_token(config, text)
            wait_until("the agent attested", agent.is_ready, timeout=40)
            wait_until("health good again", lambda: not local.reason("k8s_psat"))
        finally:
            agent.kill()
            local.stop()
    for name, options in (("files", {"embed": False}), ("embedded", {"embed": True})):
        with results.check(f"server_by_client_certificate_{name}"):
            api.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "psat-certificate"},
                       "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                       "subjects": [{"kind": "User", "name": "psat-certificate", "apiGroup": "rbac.authorization.k8s.io"}]})
            config = api.kubeconfig("psat-certificate", name=f"psat-{name}", **options)
            local = LocalSignet(folder / name, {"main": {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"],
                                                         "kube_config_file": str(config)}})
            try:
                local.attests(agent_token(api, pod))
            finally:
                local.stop()
