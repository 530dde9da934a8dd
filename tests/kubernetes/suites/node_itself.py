"""The node itself: pods run, find Services by name, have cgroups of the kubelet's form, and end."""

from harness.process import wait_until
from harness.results import require

from cluster import images

_POD = {"imagePullPolicy": "Never", "image": images.WORKLOAD}


def run(results, context):
    with results.check("starts", abort=True):
        node = context.node()
        node.import_image(images.workload(context.folder("images")))
    node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "itself"}})
    node.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "itself"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{**_POD, "name": "c", "command": ["sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8000 -h /tmp"]}]}}}})
    node.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "itself"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}})
    with results.check("pods_run", abort=True):
        pods = node.wait_pods("itself", "app=web", count=2)
    with results.check("service_by_name"):
        name = pods[0]["metadata"]["name"]
        address = node.api.get("/api/v1/namespaces/itself/services/web")["spec"]["clusterIP"]
        require(address in node.exec("itself", name, "nslookup", "web.itself.svc.cluster.local").stdout, "no such name")
        wait_until("an answer of the Service", lambda: "hello" in node.exec(
            "itself", name, "sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80").stdout)
    with results.check("api_server_from_a_pod"):
        command = ("openssl s_client -connect kubernetes.default.svc:443 -verify_return_error -verify_hostname kubernetes.default.svc "
                   "-CAfile /var/run/secrets/kubernetes.io/serviceaccount/ca.crt </dev/null")
        node.exec("itself", name, "sh", "-c", command)
    with results.check("cgroup_is_the_kubelets"):
        with open(f"/proc/{node.container_pid(pods[0])}/cgroup", encoding="ascii") as source:
            path = source.read().splitlines()[-1].split(":", 2)[2]
        uid, container = pods[0]["metadata"]["uid"], pods[0]["status"]["containerStatuses"][0]["containerID"].split("//")[1]
        require(path.endswith(f"/kubepods/besteffort/pod{uid}/{container}"), f"the cgroup is {path}")
    with results.check("pods_end"):
        node.delete_namespace("itself")
