"""signet-server and signet-agent as processes of this machine, given to an ApiServer by kubeconfig: no pod, no kubelet.

Built on tests/integration/system.py, whose stop() looks for tokens and keys in the logs.
"""

import json
import pathlib
import re
import sys

from harness.process import run, wait_until
from harness.results import Failure, require

from . import toolchain

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "integration"))

from system import System, listed, spiffe_id  # noqa: E402

AUDIENCE = "spire-server"
NAMESPACE, SERVER_ACCOUNT, AGENT_ACCOUNT = "signet", "signet-server", "signet-agent"
CHART = toolchain.HERE.parent.parent / "deploy" / "kubernetes" / "chart" / "signet"
_RIGHTS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def apply_rights(api):
    """The chart's namespace, service accounts and roles, and its empty ConfigMap: what a cluster gives to the two programs."""
    api.make_namespace(NAMESPACE)
    done = api.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", input=_rendered())
    wanted = [o for o in _objects(done.stdout) if o["kind"] in _RIGHTS or
              (o["kind"] == "ConfigMap" and o["metadata"]["name"] == "signet-bundle")]
    require(wanted, "the chart has no roles")
    api.apply({"apiVersion": "v1", "kind": "List", "items": wanted})


def _rendered():
    helm = toolchain.kubernetes("helm") / "helm"
    return run([helm, "template", "signet", CHART, "-n", NAMESPACE, "--kube-version", toolchain.KUBERNETES_VERSION]).stdout


def _objects(text):
    rest, found, decoder = text.strip(), [], json.JSONDecoder()
    while rest:
        item, end = decoder.raw_decode(rest)
        found += item["items"] if item["kind"] == "List" else [item]
        rest = rest[end:].strip()
    return found


class LocalSignet:
    """A server that knows clusters, and agents started one after the other.

    `clusters`: name -> its options, as YAML's flow style or JSON. `publish`: likewise for bundle_publishers.k8s_configmap.
    """

    def __init__(self, folder, clusters, publish=None, agent_options="", ca_ttl="24h"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        publishers = f"\nbundle_publishers: {{k8s_configmap: {{clusters: {json.dumps(publish)}}}}}" if publish else ""
        attestors = f"node_attestors: {{k8s_psat: {{clusters: {json.dumps(clusters)}}}}}"
        self.system = System(toolchain.signet(), folder, server_options=f"{attestors}{publishers}\nca: {{ttl: {ca_ttl}}}", agent_options=agent_options)
        self.server = self.system.server
        self.server.start()
        self.system.pin_server_port()
        self._count = 0

    def agent(self, token, cluster="main", name=None, attestor_options=""):
        """Configures an agent of its own folder with that token (text) in its token file; does not start it."""
        self._count += 1
        name = name or f"agent{self._count}"
        path = self.folder / f"{name}.token"
        write_token(path, token)
        return self.system.configure_agent(name=name, attestor=f"k8s_psat: {{cluster: {cluster}, token_path: {path}{attestor_options}}}")

    def attests(self, token, cluster="main"):
        """The record of the agent that attests with the token; it is stopped again."""
        before = {spiffe_id(a["id"]) for a in self.agents()}
        agent = self.agent(token, cluster)
        agent.start()
        try:
            found = [a for a in self.agents() if spiffe_id(a["id"]) not in before] or self.agents()
            return found[-1]
        finally:
            agent.stop()

    def refusal(self, token, cluster="main", words="", timeout=20):
        """Warnings and errors of an agent that comes with the token, once `words` (a regular expression) are among them."""
        before = len(self.agents())
        agent = self.agent(token, cluster)
        agent.spawn()
        try:
            def told():
                text = "\n".join(line for line in agent.log_text().splitlines() if re.search(" (WARN|ERROR) ", line))
                return text if re.search("k8s_psat", text) and re.search(words, text) else None
            text = wait_until(f"a refusal with {words!r}", told, timeout=timeout)
            require(len(self.agents()) == before, "an agent was accepted")
            return text
        except Failure as error:
            raise Failure(f"{error}\n{agent.log_text()[-1500:]}\n--- server:\n{self.server.log_text()[-1500:]}") from None
        finally:
            agent.kill()

    def agents(self):
        return self.system.agents()

    def forget_agents(self):
        for agent in self.agents():
            self.system.run("agent", "evict", spiffe_id(agent["id"]), socket=self.system.admin)

    def reason(self, part=""):
        """What the server's health says is wrong with the parts whose names begin so; empty: nothing."""
        return reason(self.server, part)

    def restart(self):
        """The server, on what it has on disk."""
        self.server.stop()
        self.server.start()

    def stop(self):
        self.system.stop()


def reason(daemon, part=""):
    """What the daemon's /readyz says is wrong with the parts whose names begin so; empty: nothing."""
    parts = json.loads(daemon.http("/readyz")[1])["parts"]
    return "; ".join(f"{name}: {state.get('reason', '')}" for name, state in parts.items()
                     if name.startswith(part) and state["state"] != "ready")


def write_token(path, token):
    """As the kubelet does: a new file in the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(token)
    new.chmod(0o600)
    new.rename(path)


def account_kubeconfig(api, account, name=None, server=None, seconds=3600):
    """A kubeconfig of the service account of the chart, by a token of it."""
    return api.kubeconfig(account, name=name or account, server=server, token=api.token(NAMESPACE, account, seconds=seconds))


def selectors(agent):
    """Of an agent's record, as type:value."""
    return sorted(f"{s['type']}:{s['value']}" for s in listed(agent, "selectors"))
