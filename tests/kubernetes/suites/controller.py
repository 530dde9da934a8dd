"""spire-controller-manager, as published, on our admin socket: its objects become entries and federation relationships.

Beside it stands what must not happen: an entry written anew at each reconciliation, a join token's alias taken for an
orphan, and a server's restart that makes the controller start over.
"""

import json
import os
import pathlib
import re
import socket
import time

from cluster import toolchain
from harness.process import Daemon, run as run_program, wait_until
from harness.results import require
from harness.system import SignetServer

from .chart import CHART, helm

HERE = pathlib.Path(__file__).resolve().parent.parent
TRUST_DOMAIN = "example.org"
CLUSTER = "test"
GROUP = "/apis/spire.spiffe.io/v1alpha1"
WEBHOOK = "spire-controller-manager-webhook"
WEBHOOK_PORT = 9443  # whatever its configuration says
SYSTEM = "spire-system"
ACCOUNT = "controller"


def run(results, context):
    with results.check("starts", abort=True):
        installed = toolchain.controller()
        api = context.api()
        folder = context.folder("controller")
        server = SignetServer(folder / "server")
        # A node of before the controller, whose alias is the work of its join token.
        token = server.cli.join_token(f"spiffe://{TRUST_DOMAIN}/alias")
        prepare(api, installed)
        controller = Controller(installed, api, server, folder)
    try:
        checks(results, api, server, controller, token)
        controller.stop()
        prefix(results, api, server, installed, folder)
        if os.geteuid() != 0:
            results.skip("webhook_certificate_is_ours", "it needs root, to look like a pod")
        elif taken(WEBHOOK_PORT):
            results.skip("webhook_certificate_is_ours", f"port {WEBHOOK_PORT}, which the controller insists on, is taken")
        else:
            webhook(results, api, server, installed, folder)
    finally:
        controller.stop()
        server.stop()


def prepare(api, installed):
    """The CRDs that the controller publishes, and its service account with the rights that our chart gives it."""
    for crd in sorted((installed / "crd").glob("*.yaml")):
        api.apply(crd.read_text())
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    api.make_service_account(SYSTEM, ACCOUNT)
    api.apply(helm("template", "signet", CHART, "-n", SYSTEM, "--show-only", "templates/controller-manager-rights.yaml", "--set",
                   f"controllerManager.enabled=true,server.serviceAccount.create=false,server.serviceAccount.name={ACCOUNT}").stdout)


def give_published_role(api, installed):
    """The wider one of its own, with which it may write its webhook's configuration."""
    api.apply((installed / "rbac" / "role.yaml").read_text())
    api.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "controller-manager-role"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "manager-role"},
               "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}]})


class Controller:
    """The program with the rights of its role. With `in_cluster` it runs as in a pod, which its webhook needs."""

    def __init__(self, installed, api, server, folder, in_cluster=False, **more):
        self.log = folder / f"controller{'-webhook' if in_cluster else '-'.join(['', *more])}.log"
        config = folder / "controller.yaml"
        config.write_text(json.dumps({
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ControllerManagerConfig", "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": "0"}, "clusterName": CLUSTER,
            "clusterDomain": "cluster.local", "trustDomain": TRUST_DOMAIN, "ignoreNamespaces": ["kube-.*"],
            "validatingWebhookConfigurationName": WEBHOOK, "gcInterval": 500_000_000, "logLevel": "debug",
            "spireServerSocketPath": str(server.admin_socket), **more}))
        self.environment = {"ENABLE_WEBHOOKS": "false"}
        argv = [installed / "bin" / "spire-controller-manager", "--config", config]
        token = api.token(SYSTEM, ACCOUNT, seconds=3600)
        if in_cluster:
            secrets = folder / "secrets"
            secrets.mkdir()
            (secrets / "token").write_text(token)
            (secrets / "ca.crt").write_bytes(pathlib.Path(api.ca).read_bytes())
            script = ("mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && "
                      'cp "$1"/* /run/secrets/kubernetes.io/serviceaccount/ && shift && exec "$@"')
            argv = ["unshare", "-m", "sh", "-c", script, "sh", secrets, *argv]
            self.environment = {"KUBERNETES_SERVICE_HOST": api.address, "KUBERNETES_SERVICE_PORT": str(api.port), "KUBECONFIG": ""}
        else:
            self.environment["KUBECONFIG"] = str(api.kubeconfig(ACCOUNT, token=token, name="controller"))
        self.daemon = Daemon("spire-controller-manager", argv, self.log, self.environment)

    def stop(self):
        self.daemon.stop(grace=5)

    def mark(self):
        return self.log.stat().st_size

    def said(self, mark, pattern):
        return re.findall(pattern, self.log.read_text(errors="replace")[mark:])


def checks(results, api, server, controller, token):
    node = api.make_node("controller-node")
    parent = f"spiffe://{TRUST_DOMAIN}/spire/agent/k8s_psat/{CLUSTER}/{node['metadata']['uid']}"
    api.make_namespace("shop", {"team": "shop"})

    def entries():
        return server.cli.json("entry", "list").get("entries", [])

    def find(spiffe_id):
        return next((e for e in entries() if text_of(e["spiffe_id"]) == f"spiffe://{TRUST_DOMAIN}{spiffe_id}"), None)

    def appears(spiffe_id, condition=lambda entry: True):
        return wait_until(f"entry {spiffe_id}", lambda: (e := find(spiffe_id)) and condition(e) and e, daemons=[controller.daemon])

    def relationships():
        return server.cli.json("federation", "list").get("federation_relationships", [])

    def relationship(condition=lambda one: True):
        return wait_until("relationship", lambda: next((r for r in relationships() if condition(r)), None), daemons=[controller.daemon])

    def settled(rounds=4):
        """Over some reconciliations (one each half second, here) the controller writes nothing."""
        mark, before = controller.mark(), entries()
        time.sleep(0.6 * rounds)
        wrote = controller.said(mark, r"(?:Created|Updated|Deleted) (?:entry|federation)|Failed to [^\n]*")
        require(not wrote, f"it goes on writing: {wrote[:3]}")
        require(entries() == before, f"entries have changed: {before} -> {entries()}")

    with results.check("pod_becomes_entry"):
        api.post(f"{GROUP}/clusterspiffeids", {
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID", "metadata": {"name": "web"}, "spec": {
                "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/ns/{{ .PodMeta.Namespace }}/sa/{{ .PodSpec.ServiceAccountName }}/{{ .PodMeta.Name }}",
                "podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"matchLabels": {"team": "shop"}},
                "dnsNameTemplates": ["{{ .PodMeta.Name }}.shop.svc.cluster.local"], "workloadSelectorTemplates": ["k8s:sa:{{ .PodSpec.ServiceAccountName }}"],
                "federatesWith": ["partner.org"], "ttl": "30m", "jwtTtl": "2m", "admin": True, "downstream": True, "hint": "main"}})
        pod = api.make_pod("shop", "web-1", "controller-node", "front", {"app": "web"})
        api.make_pod("shop", "other", "controller-node", "front", {"app": "other"})
        entry = appears("/ns/shop/sa/front/web-1")
        require(text_of(entry["parent_id"]) == parent, f"parent {entry['parent_id']}")
        require(selectors_of(entry) == {f"k8s:pod-uid:{pod['metadata']['uid']}", "k8s:sa:front"}, f"selectors {entry['selectors']}")
        require(find("/ns/shop/sa/front/other") is None, "a pod that the selector does not name has an entry")
    with results.check("every_field_is_carried"):
        wanted = {"x509_svid_ttl": 1800, "jwt_svid_ttl": 120, "admin": True, "downstream": True, "hint": "main",
                  "federates_with": ["partner.org"], "dns_names": ["web-1.shop.svc.cluster.local"]}
        require({k: entry[k] for k in wanted} == wanted, f"entry {entry}")
    with results.check("its_status_tells_of_the_entry"):
        stats = wait_until("stats", lambda: (s := api.get(f"{GROUP}/clusterspiffeids/web").get("status", {}).get("stats")) and s["entriesToSet"] and s)
        require(stats["entryFailures"] == 0 and stats["podsSelected"] == 1, f"stats {stats}")
    with results.check("nothing_is_written_twice"):
        settled()
        require(find("/ns/shop/sa/front/web-1")["revision_number"] == entry["revision_number"], "the revision has grown")
    with results.check("join_token_and_its_alias_are_left_alone"):
        # As an attestation by token leaves it.
        server.cli.create_entry(f"spiffe://{TRUST_DOMAIN}/alias", [f"spiffe_id:spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"],
                                parent_id=f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}")
        settled()
        require(find("/alias"), "the alias was deleted")
    with results.check("changed_object_changes_the_entry"):
        api.patch(f"{GROUP}/clusterspiffeids/web", {"spec": {"hint": "second", "ttl": "20m", "federatesWith": []}})
        changed = appears("/ns/shop/sa/front/web-1", lambda e: e["hint"] == "second")
        require(changed["id"] == entry["id"] and changed["x509_svid_ttl"] == 1200, f"entry {changed}")
        require(not changed.get("federates_with"), f"entry {changed}")
        require(int(changed["revision_number"]) == int(entry["revision_number"]) + 1, f"revision {changed['revision_number']}")
        settled()
    with results.check("deleted_pod_loses_its_entry"):
        api.delete_pod("shop", "web-1")
        wait_until("the entry's end", lambda: find("/ns/shop/sa/front/web-1") is None, daemons=[controller.daemon])

    with results.check("static_entry"):
        spec = {"spiffeID": f"spiffe://{TRUST_DOMAIN}/static", "parentID": parent, "selectors": ["unix:uid:7", "unix:gid:8"],
                "federatesWith": ["partner.org"], "x509SVIDTTL": "10m", "jwtSVIDTTL": "1m", "dnsNames": ["b.example.org", "a.example.org"], "hint": "s"}
        api.post(f"{GROUP}/clusterstaticentries", {"apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterStaticEntry",
                                                   "metadata": {"name": "static"}, "spec": spec})
        entry = appears("/static")
        require(selectors_of(entry) == {"unix:uid:7", "unix:gid:8"}, f"entry {entry}")
        require(entry["x509_svid_ttl"] == 600 and sorted(entry["dns_names"]) == ["a.example.org", "b.example.org"], f"entry {entry}")
        status = wait_until("status", lambda: (s := api.get(f"{GROUP}/clusterstaticentries/static").get("status")) and s.get("rendered") and s)
        require(not status["masked"], f"status {status}")
        settled()

    with results.check("federated_trust_domain"):
        api.post(f"{GROUP}/clusterfederatedtrustdomains", {
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterFederatedTrustDomain", "metadata": {"name": "partner"}, "spec": {
                "trustDomain": "partner.org", "bundleEndpointURL": "https://127.0.0.1:1/bundle", "trustDomainBundle": server.cli.bundle_spiffe(),
                "bundleEndpointProfile": {"type": "https_spiffe", "endpointSPIFFEID": "spiffe://partner.org/spire/server"}}})
        one = relationship()
        require(one["trust_domain"] == "partner.org" and one["https_spiffe"]["endpoint_spiffe_id"] == "spiffe://partner.org/spire/server", f"{one}")
        require(one["trust_domain_bundle"]["x509_authorities"], f"no bundle: {one}")
        settled()
    with results.check("federated_trust_domain_changed"):
        api.patch(f"{GROUP}/clusterfederatedtrustdomains/partner", {"spec": {
            "bundleEndpointURL": "https://127.0.0.1:2/new", "bundleEndpointProfile": {"type": "https_web", "endpointSPIFFEID": None}}})
        one = relationship(lambda r: r["bundle_endpoint_url"].endswith("/new"))
        require("https_web" in one and one["trust_domain_bundle"]["x509_authorities"], f"{one}")
        settled()

    with results.check("restart_of_the_server_confuses_nobody"):
        before, peers, mark = entries(), relationships(), controller.mark()
        server.stop()
        api.make_pod("shop", "web-2", "controller-node", "front", {"app": "web"})
        time.sleep(1)
        server.start()
        appears("/ns/shop/sa/front/web-2")
        require([e for e in entries() if e["id"] in {b["id"] for b in before}] == before, "what was there has changed")
        require(relationships() == peers, f"relationships {relationships()}")
        require(controller.daemon.alive(), "the controller ended")
        require(not controller.said(mark, "(?:Updated|Deleted) (?:entry|federation)"), "it wrote more than the new entry")
        settled()
    with results.check("restart_of_the_controller_writes_nothing"):
        before = entries()
        controller.daemon.stop(grace=5)
        controller.daemon = Daemon("spire-controller-manager", controller.daemon.process.args, controller.log, controller.environment)
        settled(rounds=8)
        require(entries() == before, "entries have changed")

    with results.check("deleted_objects_take_theirs_with_them"):
        api.delete(f"{GROUP}/clusterfederatedtrustdomains/partner")
        api.delete(f"{GROUP}/clusterstaticentries/static")
        api.delete(f"{GROUP}/clusterspiffeids/web")
        wait_until("an end of all", lambda: not relationships() and not find("/static") and not find("/ns/shop/sa/front/web-2"))
    with results.check("two_hundred_pods"):
        api.post(f"{GROUP}/clusterspiffeids", {
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID", "metadata": {"name": "many"}, "spec": {
                "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/many/{{ .PodMeta.Name }}", "podSelector": {"matchLabels": {"app": "many"}}}})
        for n in range(210):  # more than a page of its lists and a batch of its writes
            api.post("/api/v1/namespaces/shop/pods", {"metadata": {"name": f"many-{n}", "labels": {"app": "many"}}, "spec": {
                "nodeName": "controller-node", "serviceAccountName": "front", "automountServiceAccountToken": False,
                "containers": [{"name": "c", "image": "localhost/test:1"}]}})
        def count():
            return len([e for e in entries() if e["spiffe_id"]["path"].startswith("/many/")])

        wait_until("210 entries", lambda: count() == 210, timeout=60)
        settled()
        api.delete(f"{GROUP}/clusterspiffeids/many")
        wait_until("their end", lambda: count() == 0, timeout=60)


def prefix(results, api, server, installed, folder):
    """As our chart runs it: ids of its own choosing, and no others touched."""
    with results.check("entry_ids_with_a_prefix"):
        mine = server.cli.create_entry(f"spiffe://{TRUST_DOMAIN}/by-hand", ["unix:uid:1"])
        controller = Controller(installed, api, server, folder, entryIDPrefix="scm")
        try:
            api.post(f"{GROUP}/clusterstaticentries", {"apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterStaticEntry", "metadata": {"name": "p"}, "spec": {
                "spiffeID": f"spiffe://{TRUST_DOMAIN}/prefixed", "parentID": f"spiffe://{TRUST_DOMAIN}/node", "selectors": ["unix:uid:9"]}})

            def ids():
                return {e["spiffe_id"]["path"]: e["id"] for e in server.cli.json("entry", "list")["entries"]}

            wait_until("entry with a prefix", lambda: ids().get("/prefixed", "").startswith("scm."), daemons=[controller.daemon])
            api.delete(f"{GROUP}/clusterstaticentries/p")
            wait_until("its end", lambda: "/prefixed" not in ids(), daemons=[controller.daemon])
            require(ids().get("/by-hand") == mine["id"], "an entry made by hand was deleted")
        finally:
            controller.stop()


def webhook(results, api, server, installed, folder):
    """Its admission webhook stands on an SVID that our server mints and on our bundle."""
    with results.check("webhook_certificate_is_ours"):
        give_published_role(api, installed)
        api.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {
            "metadata": {"name": WEBHOOK}, "webhooks": [{
                "name": "vclusterspiffeid.kb.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
                "clientConfig": {"service": {"name": "hook", "namespace": SYSTEM, "path": "/validate-spire-spiffe-io-v1alpha1-clusterspiffeid"}},
                "rules": [{"apiGroups": ["spire.spiffe.io"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"], "resources": ["clusterspiffeids"]}]}]})
        controller = Controller(installed, api, server, folder, in_cluster=True)
        try:
            path = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{WEBHOOK}"
            wait_until("caBundle", lambda: api.get(path)["webhooks"][0]["clientConfig"].get("caBundle"), daemons=[controller.daemon])
            roots = folder / "roots.pem"
            roots.write_text(server.cli.bundle_pem())

            def answers():
                shown = run_program(["openssl", "s_client", "-connect", f"127.0.0.1:{WEBHOOK_PORT}", "-CAfile", roots, "-verify_return_error",
                                     "-verify_hostname", f"hook.{SYSTEM}.svc", "-brief"], input="", check=False)
                return "Verification: OK" in shown.stdout + shown.stderr

            wait_until("a webhook whose certificate verifies", answers, daemons=[controller.daemon])
        finally:
            controller.stop()
            api.delete(path)


def taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def text_of(spiffe_id):
    return f"spiffe://{spiffe_id['trust_domain']}{spiffe_id['path']}"


def selectors_of(entry):
    return {f"{s['type']}:{s['value']}" for s in entry["selectors"]}
