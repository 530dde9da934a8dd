"""A whole Kubernetes node: ApiServer, containerd, kubelet, controllers, scheduler, kube-proxy. Only in namespaces.enter()'s namespaces.

Pods get addresses of a bridge, names of Services (dns.py) and their cluster addresses (kube-proxy, nftables). The kubelet's
serving certificate is of the cluster's authority, with the node's address. Images are imported, never pulled.
"""

import json
import shutil

from harness.process import Daemon, run, wait_until
from harness.results import Failure

from . import images, toolchain
from .api_server import ApiServer
from .dns import ServiceDns
from .namespaces import NODE_ADDRESS

NODE_NAME = "node1"
_POD_SUBNET = "10.88.0.0/22"  # more than a /24: 250 pods and their predecessors' addresses


class Node:
    """Starts everything in `folder` and returns when the node is Ready. `api` is its ApiServer."""

    def __init__(self, folder, name=NODE_NAME):
        self.folder, self.name = folder, name
        programs = toolchain.kubernetes(*toolchain.NODE_PROGRAMS)
        self._programs = programs
        self._start_containerd()
        self.api = ApiServer(folder / "api", address=NODE_ADDRESS, port=6443)
        self.kubectl, self.apply = self.api.kubectl, self.api.apply
        self._dns = ServiceDns(self.api, NODE_ADDRESS)
        self.import_image(images.pause(folder))
        self._start_controllers()
        self._start_kubelet()
        self._start_proxy()
        wait_until("a Ready node", self._is_ready, timeout=60, daemons=[self.kubelet, self._containerd, self.api.daemon])
        # Pods are refused until the controller has given the namespace its account.
        wait_until("the default service account", lambda: self.api.get("/api/v1/namespaces/default/serviceaccounts/default"),
                   daemons=[self._controllers])

    # -- pieces -------------------------------------------------------------------------------------------------------
    def _start_containerd(self):
        root, packages = self.folder, toolchain.debian()
        cni = root / "cni"
        cni.mkdir(parents=True)
        (cni / "10-bridge.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "bridge", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "hairpinMode": True,
             "ipam": {"type": "host-local", "dataDir": str(root / "cni-data"), "ranges": [[{"subnet": _POD_SUBNET}]]}}]}))
        # restrict_oom_score_adj: a container's root often lacks CAP_SYS_RESOURCE, and no sandbox would start.
        config = root / "containerd.toml"
        config.write_text(f"""
version = 2
root = "{root}/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{images.PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{packages}/usr/lib/cni"
    conf_dir = "{cni}"
""")
        path = f"{packages}/usr/bin:{packages}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._containerd = Daemon("containerd", [packages / "usr/bin/containerd", "-c", config], root / "containerd.log",
                                  env={"PATH": path, "LD_LIBRARY_PATH": toolchain.libraries()})
        wait_until("containerd", lambda: self.ctr("version").returncode == 0, daemons=[self._containerd])

    def _start_controllers(self):
        api = self.api
        self._controllers = Daemon("kube-controller-manager", [
            self._programs / "kube-controller-manager", f"--kubeconfig={api.kubeconfig('system:kube-controller-manager')}",
            "--use-service-account-credentials", f"--service-account-private-key-file={api.signing_key}", f"--root-ca-file={api.ca}",
            f"--cluster-signing-cert-file={api.ca}", f"--cluster-signing-key-file={api.authority.key}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--cert-dir={self.folder}/controllers"], self.folder / "kube-controller-manager.log")
        self._scheduler = Daemon("kube-scheduler", [
            self._programs / "kube-scheduler", f"--kubeconfig={api.kubeconfig('system:kube-scheduler')}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--cert-dir={self.folder}/scheduler"], self.folder / "kube-scheduler.log")

    def _start_kubelet(self):
        api = self.api
        certificate, key = api.authority.issue("kubelet-serving", f"system:node:{self.name}", ["system:nodes"], usage="serverAuth",
                                               sans=[f"DNS:{self.name}", f"IP:{NODE_ADDRESS}"])
        config = self.folder / "kubelet.yaml"
        config.write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": str(api.ca)}},
            "authorization": {"mode": "Webhook"}, "tlsCertFile": str(certificate), "tlsPrivateKeyFile": str(key),
            "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False, "makeIPTablesUtilChains": False,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock", "podLogsDir": str(self.folder / "pods"),
            "volumePluginDir": str(self.folder / "volume-plugins"), "resolvConf": "", "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local", "maxPods": 400, "syncFrequency": "10s", "registerNode": True,
            # 100: no image is collected, however full the disk; nothing here could pull it again.
            "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"}}))
        self._kubelet_command = ("kubelet", [
            self._programs / "kubelet", f"--config={config}", f"--kubeconfig={api.kubeconfig(f'system:node:{self.name}', ['system:nodes'])}",
            f"--root-dir={self.folder}/kubelet", f"--cert-dir={self.folder}/kubelet-pki", f"--hostname-override={self.name}",
            f"--node-ip={NODE_ADDRESS}"], self.folder / "kubelet.log")
        self.kubelet = Daemon(*self._kubelet_command)

    def restart_kubelet(self):
        """Pods outlive it."""
        self.kubelet.stop()
        self.kubelet = Daemon(*self._kubelet_command)

    def _start_proxy(self):
        packages = toolchain.debian()
        config = self.folder / "kube-proxy.yaml"
        config.write_text(json.dumps({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.api.kubeconfig("system:kube-proxy"))}, "hostnameOverride": self.name,
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"masqueradeAll": True}}))
        self._proxy = Daemon("kube-proxy", [self._programs / "kube-proxy", f"--config={config}"], self.folder / "kube-proxy.log",
                             env={"PATH": f"{packages}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": toolchain.libraries()})

    def _is_ready(self):
        conditions = self.api.get(f"/api/v1/nodes/{self.name}")["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    # -- for suites ---------------------------------------------------------------------------------------------------
    def ctr(self, *arguments, check=False):
        return run([toolchain.debian() / "usr/bin/ctr", "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", *arguments],
                   check=check, timeout=120)

    def import_image(self, archive):
        self.ctr("images", "import", archive, check=True)

    def helm(self, *arguments, check=True, timeout=120):
        home = self.folder / "helm"
        return run([self._programs / "helm", "--kubeconfig", self.api.admin, *arguments], check=check, timeout=timeout,
                   env={"HELM_CACHE_HOME": f"{home}/cache", "HELM_CONFIG_HOME": f"{home}/config", "HELM_DATA_HOME": f"{home}/data"})

    def pods(self, namespace, selector=""):
        query = f"?labelSelector={selector.replace('=', '%3D').replace(',', '%2C')}" if selector else ""
        return self.api.get(f"/api/v1/namespaces/{namespace}/pods{query}")["items"]

    def wait_pods(self, namespace, selector="", count=1, timeout=60):
        """The pods of the selector once `count` of them are ready and none is on its way out; tells why when they do not come."""
        def ready():
            found = self.pods(namespace, selector)
            return (len(found) == count and all(is_ready(p) for p in found) and found) or None
        try:
            return wait_until(f"{count} ready pods {selector} in {namespace}", ready, timeout=timeout, daemons=[self.kubelet])
        except Failure as error:
            raise Failure(f"{error}\n{self.explain(namespace)}") from None

    def explain(self, namespace):
        """What kubectl knows of the namespace's pods, and their logs' ends."""
        text = self.kubectl("-n", namespace, "get", "pods", "-o", "wide", check=False).stdout
        text += self.kubectl("-n", namespace, "get", "events", "--sort-by=.lastTimestamp", check=False).stdout[-3000:]
        for pod in self.pods(namespace):
            if not is_ready(pod):
                name = pod["metadata"]["name"]
                text += f"--- {name}:\n" + self.logs(namespace, name, "--tail=15", "--all-containers")
        return text

    def logs(self, namespace, pod, *options):
        done = self.kubectl("-n", namespace, "logs", pod, *options, check=False)
        return done.stdout + done.stderr

    def exec(self, namespace, pod, *command, check=True, timeout=60, container=None):
        """Runs the command in the pod's container, by the API server and the kubelet."""
        where = ["-c", container] if container else []
        return self.kubectl("-n", namespace, "exec", pod, *where, "--", *command, check=check, timeout=timeout)

    def delete_namespace(self, name):
        self.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", "--timeout=90s")

    def container_pid(self, pod, container=None):
        """The process id, as the node sees it, of a container's first process."""
        statuses = pod["status"]["containerStatuses"]
        status = next(s for s in statuses if container in (None, s["name"]))
        wanted = status["containerID"].removeprefix("containerd://")
        for line in self.ctr("tasks", "ls", check=True).stdout.splitlines()[1:]:
            fields = line.split()
            if fields[0] == wanted:
                return int(fields[1])
        raise Failure(f"containerd has no task {wanted}")

    def close(self):
        """Ends the daemons; the namespaces' end takes the containers."""
        self._dns.close()
        for daemon in (self.kubelet, self._proxy, self._scheduler, self._controllers):
            daemon.process.kill()
            daemon.stop()
        self.api.close()
        self._containerd.stop()
        shutil.rmtree(self.folder / "containerd", ignore_errors=True)


def is_ready(pod):
    """Ready and staying."""
    conditions = pod["status"].get("conditions") or []
    return "deletionTimestamp" not in pod["metadata"] and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def restarts(pod):
    return sum(s["restartCount"] for s in pod["status"].get("containerStatuses") or [])
