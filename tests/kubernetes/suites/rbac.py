"""The chart's roles are enough for server and agent, and without any one verb something named fails."""

import contextlib

from cluster.api_server import Answer
from cluster.local import AGENT_ACCOUNT, LocalSignet, NAMESPACE, SERVER_ACCOUNT, account_kubeconfig, apply_rights, reason
from harness.process import wait_until
from harness.results import require

from .psat import agent_pod, agent_token

_NODE = "rbac-node"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def run(results, context):
    folder = context.folder("rbac")
    with results.check("starts", abort=True):
        api = context.api()
        apply_rights(api)
        api.make_node(_NODE)
        rights = [r for account in (SERVER_ACCOUNT, AGENT_ACCOUNT) for r in rights_of(api, account)]
        config = str(account_kubeconfig(api, SERVER_ACCOUNT, name="rbac-server"))
        signet = LocalSignet(
            folder / "signet", {"main": {"service_account_allow_list": [f"{NAMESPACE}:{AGENT_ACCOUNT}"], "kube_config_file": config}},
            publish={"main": {"namespace": NAMESPACE, "kube_config_file": config}},
            agent_options=f"workload_attestors: {{k8s: {{node_name: {_NODE}, kube_config_file: "
                          f"{account_kubeconfig(api, AGENT_ACCOUNT, name='rbac-agent')}}}}}")
    try:
        token = agent_token(api, agent_pod(api, "rbac", node=_NODE))
        with results.check("enough_for_everything"):
            agent = signet.agent(token)
            agent.start()
            agent.stop()
            wait_until("the published bundle", lambda: "BEGIN CERTIFICATE" in published(api))
        tested = set()
        for account, right in ((a, r) for a in (SERVER_ACCOUNT, AGENT_ACCOUNT) for r in rights_of(api, a)):
            what = f"{account}_needs_{right.verb}_{right.resource}"
            tested.add((account, right.verb, right.resource))
            with results.check(what):
                _FAILURES[account, right.resource](api, signet, token, right)
        require(len(tested) == len(rights), "rights were counted twice")
    finally:
        with results.check("ends_without_a_token_in_a_log"):
            signet.stop()


class Right:
    """One verb on one resource, as a rule of a role gives it."""

    def __init__(self, api, path, rule, verb, resource):
        self._api, self._path, self._rule, self.verb, self.resource = api, path, rule, verb, resource

    @contextlib.contextmanager
    def taken_away(self):
        role = self._api.get(self._path)
        kept = [dict(r) for r in role["rules"]]
        kept[self._rule] = {**kept[self._rule], "verbs": [v for v in kept[self._rule]["verbs"] if v != self.verb]}
        if not kept[self._rule]["verbs"]:
            del kept[self._rule]
        self._api.patch(self._path, {"rules": kept})
        try:
            yield
        finally:
            self._api.patch(self._path, {"rules": role["rules"]})


def rights_of(api, account):
    """All that the bindings of the account's name give."""
    found = []
    for kind, bindings in (("clusterroles", f"{_RBAC}/clusterrolebindings"), ("roles", f"{_RBAC}/rolebindings")):
        for binding in api.get(bindings)["items"]:
            if not any(s.get("name") == account and s.get("namespace") == NAMESPACE for s in binding.get("subjects") or []):
                continue
            where = "" if kind == "clusterroles" else f"/namespaces/{binding['metadata']['namespace']}"
            path = f"{_RBAC}{where}/{kind}/{binding['roleRef']['name']}"
            for number, rule in enumerate(api.get(path)["rules"]):
                found += [Right(api, path, number, verb, resource) for verb in rule["verbs"] for resource in rule["resources"]]
    return found


def published(api):
    return api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/signet-bundle").get("data", {}).get("bundle.crt", "")


def names(text, right):
    """Whether a log or health text names what is missing, as the API server words a 403."""
    return f"cannot {right.verb} resource" in text and right.resource in text


def attestation_fails(api, signet, token, right):
    signet.forget_agents()
    with right.taken_away():
        wait_until("the right gone", lambda: not allowed(api, SERVER_ACCOUNT, right))
        agent = signet.agent(token)
        agent.spawn()
        wait_until("the reason in the server's log", lambda: names(signet.server.log_text(), right), daemons=())
        require(names(signet.reason(), right), f"health does not name it: {signet.reason()!r}")
        require(not signet.agents(), "the agent was attested all the same")
    try:
        wait_until("the agent attested once the right is back", agent.is_ready, timeout=40)
    finally:
        agent.kill()
    wait_until("good health", lambda: not signet.reason("k8s_psat"))


def publishing_fails(api, signet, _, right):
    with right.taken_away():
        wait_until("the right gone", lambda: not allowed(api, SERVER_ACCOUNT, right))
        api.patch(f"/api/v1/namespaces/{NAMESPACE}/configmaps/signet-bundle", {"data": None})
        signet.restart()  # it publishes what it has at its start
        wait_until("the reason in the server's log", lambda: names(signet.server.log_text(), right))
        require(names(signet.reason(), right), f"health does not name it: {signet.reason()!r}")
    wait_until("good health once the right is back", lambda: not signet.reason("bundle_publisher"), timeout=60)
    wait_until("the bundle", lambda: "BEGIN CERT" in published(api), timeout=60)


def pods_are_unknown(api, signet, token, right):
    with right.taken_away():
        wait_until("the right gone", lambda: not allowed(api, AGENT_ACCOUNT, right))
        agent = signet.agent(token)
        agent.spawn()
        try:
            wait_until("the reason in the agent's log", lambda: names(agent.log_text(), right))
            wait_until("the reason in its health", lambda: names(reason(agent), right))
        except BaseException:
            agent.kill()
            raise
    try:
        wait_until("the agent ready once the right is back", agent.is_ready, timeout=60)
        wait_until("health good again", lambda: not reason(agent), timeout=60)
    finally:
        agent.kill()


_FAILURES = {
    (SERVER_ACCOUNT, "tokenreviews"): attestation_fails,
    (SERVER_ACCOUNT, "pods"): attestation_fails,
    (SERVER_ACCOUNT, "nodes"): attestation_fails,
    (SERVER_ACCOUNT, "configmaps"): publishing_fails,
    (AGENT_ACCOUNT, "pods"): pods_are_unknown,
}


def allowed(api, account, right):
    """By trying: a review of one's own rights is open to every account."""
    attributes = {"verb": right.verb, "resource": right.resource, "namespace": NAMESPACE,
                  "group": "authentication.k8s.io" if right.resource == "tokenreviews" else ""}
    if right.resource == "configmaps":
        attributes["name"] = "signet-bundle"
    if right.resource in ("nodes", "tokenreviews") or account == AGENT_ACCOUNT:
        del attributes["namespace"]
    try:
        review = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": f"system:serviceaccount:{NAMESPACE}:{account}", "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": attributes}})
    except Answer:
        return True
    return review["status"]["allowed"]
