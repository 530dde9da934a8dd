"""The chart by helm and by the API server: lint, render, refuse, dry-run, apply, upgrade; and exactly the rights it gives."""

import json
import os
import pathlib
import re

from cluster import toolchain
from harness.process import run as run_program
from harness.results import require

KUBERNETES = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"
CHART = KUBERNETES / "chart" / "signet"
# Everything that can be turned on.
ALL = {
    "namespace": {"podSecurity": "privileged"},
    "server": {
        "nodeAttestor": {"joinToken": {"enabled": True}, "k8sPSAT": {"allowedPodLabelKeys": ["app"], "allowedNodeLabelKeys": ["zone"]}},
        "tokenService": {"enabled": True, "issuer": "https://id.example.org", "tlsSecret": "id-tls"},
        "persistence": {"storageClass": "fast", "accessMode": "ReadWriteOncePod"},
        "jwtIssuer": "https://id.example.org/spiffe",
        "extraConfig": {"svid": {"jwt_ttl": "1m"}, "key_manager": {"memory": {}}},
        "priorityClassName": "system-cluster-critical",
    },
    "agent": {"workloadAttestors": {"unix": {"discoverPath": True}, "k8s": {"source": "kubelet"}}, "tokenService": {"enabled": True}, "oldKernel": True},
    "networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1/32"]}, "metricsFrom": [{"namespaceSelector": {}}],
                      "serverEgress": [{"ports": [{"port": 8443}]}],
                      "serverFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    "telemetry": {"prometheus": {"dashboard": {"enabled": True}}},
    "controllerManager": {"enabled": True},
}
# value -> what the refusal must name
REFUSED = {
    "server.replicaCount=2": "replicaCount",
    "server.persistance.size=2Gi": "persistance",
    "server.logLevel=loud": "logLevel",
    "server.caTTL=1day": "caTTL",
    "image.digest=latest": "digest",
    "server.nodeAttestor.k8sPSAT.serviceAccountAllowList={agent}": "serviceAccountAllowList",
    "server.tokenService.enabled=true": "issuer",
}
# What keeps the agent's pod from the level "restricted", in the words of the admission: docs/kubernetes.md has the reasons.
AGENT_EXCEPTIONS = {"host namespaces", "restricted volume types", "unrestricted capabilities", "runAsNonRoot != true", "runAsUser=0"}
PODS, NODES = ("", "pods", None), ("", "nodes", None)
# (account, namespace or None for the whole cluster, (group, resource, name), verbs): all that each may do with what matters.
RIGHTS = [
    ("signet-server", "signet", ("", "configmaps", "signet-bundle"), {"patch"}),
    ("signet-server", "signet", ("", "configmaps", None), set()),
    ("signet-server", "signet", PODS, {"get"}),
    ("signet-server", "default", PODS, set()),
    ("signet-server", None, NODES, {"get"}),
    ("signet-server", None, ("authentication.k8s.io", "tokenreviews", None), {"create"}),
    ("signet-server", "signet", ("", "secrets", None), set()),
    ("signet-agent", None, PODS, {"list", "watch"}),
    ("signet-agent", None, NODES, set()),
    ("signet-agent", None, ("", "nodes/proxy", None), set()),
    ("signet-agent", None, ("authentication.k8s.io", "tokenreviews", None), set()),
    ("signet-agent", "signet", ("", "configmaps", "signet-bundle"), set()),
    ("signet-agent", "signet", ("", "secrets", None), set()),
]
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def run(results, context):
    folder = context.folder("chart")
    everything = folder / "all.json"
    everything.write_text(json.dumps(ALL))
    with results.check("lints"):
        helm("lint", "--strict", CHART)
        helm("lint", "--strict", CHART, "--values", everything)
    with results.check("plain_manifests_are_current"):
        run_program([KUBERNETES / "render", "--check"], env={"HELM": str(helm_program())})
    with results.check("wrong_values_are_refused"):
        for value, named in REFUSED.items():
            done = helm("template", "signet", CHART, "--set", value, check=False)
            require(done.returncode != 0 and named in done.stderr, f"--set {value}: {done.stderr[-300:] or 'accepted'}")
    with results.check("server_is_restricted"):
        api = context.api()
        api.make_namespace("strict", {"pod-security.kubernetes.io/enforce": "restricted"})
        pods = pods_of(api, helm("template", "signet", CHART, "-n", "strict").stdout)
        refused = refusal(api, "strict", pods["StatefulSet"])
        require(not refused, f"the server's pod refused in a restricted namespace: {refused}")
    with results.check("agent_has_the_documented_exceptions_and_no_other"):
        refused = refusal(api, "strict", pods["DaemonSet"])
        broken = set(re.findall(r"[:,] ([\w !=]+) \(", refused.split("violates PodSecurity")[-1]))
        require(broken == AGENT_EXCEPTIONS, f"{sorted(broken)}, documented are {sorted(AGENT_EXCEPTIONS)}: {refused}")
    with results.check("api_server_accepts_everything"):
        api.make_namespace("dry")
        text = helm("template", "signet", CHART, "-n", "dry", "--values", everything).stdout
        done = api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
        require("Warning" not in done.stderr, f"warnings: {done.stderr}")
    with results.check("plain_manifests_apply_twice", abort=True):
        for _ in range(2):
            done = api.kubectl("apply", "-f", KUBERNETES / "manifests" / "signet.yaml")
            require("Warning" not in done.stderr, f"warnings: {done.stderr}")
        # Without controllers a namespace is never done with: it stays, for helm.
        rest = [o for o in objects_of(api, (KUBERNETES / "manifests" / "signet.yaml").read_text()) if o["kind"] != "Namespace"]
        api.kubectl("delete", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": rest}))
    with results.check("installs_and_upgrades_without_taking_the_bundle", abort=True):
        install(api, "install")
        api.patch("/api/v1/namespaces/signet/configmaps/signet-bundle", {"data": {"bundle.crt": "published"}})
        install(api, "upgrade", "--set", "server.logLevel=debug")
        kept = api.get("/api/v1/namespaces/signet/configmaps/signet-bundle").get("data")
        require(kept == {"bundle.crt": "published"}, f"after the upgrade the bundle is {kept}")
    for account in ("signet-server", "signet-agent"):
        with results.check(f"rights_of_{account}_are_exact"):
            for who, namespace, thing, verbs in RIGHTS:
                if who == account:
                    allowed = {verb for verb in VERBS if may(api, who, verb, namespace, thing)}
                    require(allowed == verbs, f"{who} may {sorted(allowed)} {thing} in {namespace}, not {sorted(verbs)}")
    with results.check("uninstalls"):
        install(api, "uninstall")


def helm_program():
    return toolchain.kubernetes("helm") / "helm"


def helm(*arguments, check=True, env=None):
    kind = ["--kube-version", toolchain.KUBERNETES_VERSION] if arguments[0] == "template" else []
    return run_program([helm_program(), *arguments, *kind], check=check, env={"HOME": os.environ.get("HOME", "/"), **(env or {})})


def install(api, verb, *arguments):
    chart = [] if verb == "uninstall" else [CHART]
    helm(verb, "signet", *chart, "-n", "signet", *arguments, env={"KUBECONFIG": str(api.admin)})


def objects_of(api, text):
    """The objects of a YAML text."""
    rest, found, decoder = api.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", input=text).stdout.strip(), [], json.JSONDecoder()
    while rest:
        item, end = decoder.raw_decode(rest)
        found += item["items"] if item["kind"] == "List" else [item]
        rest = rest[end:].strip()
    return found


def pods_of(api, text):
    """Kind of controller -> the pod it would make, with what its controller adds."""
    pods = {}
    for item in objects_of(api, text):
        if item["kind"] in ("StatefulSet", "DaemonSet"):
            template = item["spec"]["template"]
            claims = [{"name": c["metadata"]["name"], "emptyDir": {}} for c in item["spec"].get("volumeClaimTemplates", [])]
            template["spec"]["volumes"] += claims
            pods[item["kind"]] = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "one"}, "spec": template["spec"]}
    return pods


def refusal(api, namespace, pod):
    """What pod security admission says of the pod; empty when it may run."""
    api.make_service_account(namespace, pod["spec"]["serviceAccountName"])
    done = api.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", input=json.dumps(pod), check=False)
    return done.stderr.strip() if done.returncode else ""


def may(api, account, verb, namespace, thing):
    group, resource, name = thing
    resource, _, part = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": resource}
    attributes |= {k: v for k, v in (("namespace", namespace), ("name", name), ("subresource", part)) if v}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": f"system:serviceaccount:signet:{account}", "groups": ["system:serviceaccounts", "system:serviceaccounts:signet",
                                                                     "system:authenticated"], "resourceAttributes": attributes}}
    return api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
