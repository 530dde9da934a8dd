"""spire-controller-manager as our chart runs it, beside the server on a real node: an object, a pod, and the SVID in the pod's hand."""

import re

from cluster import images, toolchain
from cluster.signet import CHART, NAMESPACE, TRUST_DOMAIN
from harness.process import run as run_program
from harness.process import wait_until
from harness.results import require
from suites.node import APPS, start, svids

_IMAGE = "localhost/spire-controller-manager:1"


def run(results, context):
    with results.check("installs_beside_the_server", abort=True):
        node, signet = context.node(), context.signet()
        installed = toolchain.controller()
        node.import_image(images.workload(context.folder("images")))
        node.import_image(image(context.folder("controller-image"), installed))
        for crd in sorted((installed / "crd").glob("*.yaml")):
            node.api.apply(crd.read_text())
        name, _, tag = _IMAGE.partition(":")
        node.helm("upgrade", "signet", CHART, "-n", NAMESPACE, "--reuse-values", "--set", "controllerManager.enabled=true",
                  "--set", f"controllerManager.image.repository={name}", "--set-string", f"controllerManager.image.tag={tag}",
                  "--set", "controllerManager.image.pullPolicy=Never")
        node.kubectl("-n", NAMESPACE, "rollout", "status", "statefulset/signet-server", "--timeout=120s", timeout=150)
    wanted = f"spiffe://{TRUST_DOMAIN}/by-object/web"
    with results.check("pod_selected_by_an_object_has_its_svid"):
        node.api.post("/apis/spire.spiffe.io/v1alpha1/clusterspiffeids", {
            "apiVersion": "spire.spiffe.io/v1alpha1", "kind": "ClusterSPIFFEID", "metadata": {"name": "web"}, "spec": {
                "spiffeIDTemplate": "spiffe://{{ .TrustDomain }}/by-object/{{ .PodMeta.Labels.app }}", "podSelector": {"matchLabels": {"object": "yes"}}}})
        start(node, "web", "web", labels={"object": "yes"})
        start(node, "plain", "web")
        wait_until("its SVID", lambda: svids(node, "web") == [wanted], timeout=60)
        require(svids(node, "plain") == [], "another pod of the account has one")
    with results.check("object_deleted_svid_gone"):
        node.api.delete("/apis/spire.spiffe.io/v1alpha1/clusterspiffeids/web")
        wait_until("a refusal", lambda: svids(node, "web") == [], timeout=60)
    with results.check("ends"):
        node.delete_namespace(APPS)
        node.helm("upgrade", "signet", CHART, "-n", NAMESPACE, "--reuse-values", "--set", "controllerManager.enabled=false")


def image(folder, installed):
    """The program and the libraries it is linked to."""
    program = installed / "bin" / "spire-controller-manager"
    files = {"spire-controller-manager": program, "tmp/.keep": b""}
    for library in re.findall(r"(/\S+) \(0x", run_program(["ldd", program]).stdout):
        files[library.lstrip("/")] = library
    return images.write(folder / "image.tar", _IMAGE, files, ["/spire-controller-manager"])
