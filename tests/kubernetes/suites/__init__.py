"""The suites in the order they run, cheapest and most telling first."""

from . import api, attack, chart, chart_node, controller, controller_node, faults, node, node_itself, pod_faults, pod_sources, psat, rbac

# name -> (function, what it shows, seconds it takes once its counterpart is installed)
SUITES = {
    "api": (api.run, "what the suites rely on: real tokens, reviews and RBAC of the API server itself", 12),
    # Before those that make the chart's roles by themselves: helm takes over no objects of others.
    "chart": (chart.run, "the Helm chart: lint, render, dry-run, apply, upgrade, and exactly the rights it gives", 30),
    "psat": (psat.run, "node attestation by real bound tokens: what is accepted and what is refused", 60),
    "rbac": (rbac.run, "the chart's rights are enough, and not one is too many", 40),
    "faults": (faults.run, "an API server that is away, slow, wrong or hostile: what is served on, what health and log say", 60),
    "controller": (controller.run, "spire-controller-manager turns its objects into entries and federation relationships", 60),
    # Before a kubelet runs: it removes cgroups of pods that it does not know.
    "pod-faults": (pod_faults.run, "the agent while its API server or kubelet is away, slow, wrong or hostile; 250 pods come and go", 90),
    "node-itself": (node_itself.run, "what they rely on of the node: pods, Services, cgroups", 30),
    "node": (node.run, "the chart on a node: attested agent, pods' SVIDs, mTLS, rotation, rolls, refusals", 120),
    "controller-node": (controller_node.run, "spire-controller-manager by the chart on a node: an object, a pod, its SVID", 60),
    "attack": (attack.run, "pods that would be others, and what dies during attestation: never a foreign selector", 90),
    "chart-node": (chart_node.run, "the chart on the node: resources, the agent's capability, upgrades", 120),
    "pod-sources": (pod_sources.run, "pods from the node's kubelet, and selectors by the labels of namespaces", 60),
}
# These need a whole node, and so root.
NODE_SUITES = ("pod-faults", "node-itself", "node", "controller-node", "attack", "chart-node", "pod-sources")
