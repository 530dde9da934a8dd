"""A real kube-apiserver on its own etcd, RBAC and node authorisation on, without a kubelet or controllers.

What a controller or kubelet would do to the objects (service accounts, a pod's status) the caller does, by the
methods below. Not shared between threads.
"""

import base64
import http.client
import json
import secrets
import signal
import ssl
import urllib.error
import urllib.request

from harness.process import Daemon, free_port, run, wait_until
from harness.results import Failure

from . import pki, toolchain


class Answer(Failure):
    """An HTTP error of the API server: `code`, and the Status object's `message` where there is one."""

    def __init__(self, code, method, path, message):
        super().__init__(f"{method} {path} answered {code}: {message}")
        self.code, self.message = code, message


class ApiServer:
    """Starts etcd and kube-apiserver in `folder` and waits until it is ready.

    `url`, `ca` (PEM file), `admin` (kubeconfig file of a cluster administrator). `flags` are added to the API server's.
    `address` is where it listens; further `sans` go into its certificate.
    """

    def __init__(self, folder, address="127.0.0.1", port=None, sans=(), flags=(),
                 issuer="https://kubernetes.default.svc.cluster.local"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.issuer = folder, issuer
        self.address, self.port = address, port or free_port()
        self.url = f"https://{address}:{self.port}"
        self.authority = pki.Authority(folder / "pki")
        self.ca = self.authority.certificate
        self.signing_key = pki.rsa_key(folder / "pki" / "sa.key")
        certificate, key = self.authority.issue(
            "apiserver", "kube-apiserver", usage="serverAuth",
            sans=[*sans, f"IP:{address}", "IP:127.0.0.1", "IP:10.0.0.1", "DNS:localhost", "DNS:kubernetes",
                  "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local"])
        self.serving = (certificate, key)
        kubelet_client = self.authority.issue("kubelet-client", "kube-apiserver", ["system:masters"])
        self._etcd_port, peer_port = free_port(), free_port()
        etcd_url, peer_url = (f"http://127.0.0.1:{p}" for p in (self._etcd_port, peer_port))
        self._etcd_command = ("etcd", [
            toolchain.debian() / "usr/bin/etcd", "--data-dir", folder / "etcd", "--listen-client-urls", etcd_url,
            "--advertise-client-urls", etcd_url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
            "--initial-cluster", f"default={peer_url}"], folder / "etcd.log")
        self._command = ("kube-apiserver", [
            toolchain.kubernetes("kube-apiserver") / "kube-apiserver", f"--etcd-servers={etcd_url}", f"--bind-address={address}",
            f"--advertise-address={address}", f"--secure-port={self.port}", f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}", f"--client-ca-file={self.ca}", "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-issuer={issuer}", f"--service-account-key-file={self.signing_key}",
            f"--service-account-signing-key-file={self.signing_key}", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
            f"--kubelet-client-certificate={kubelet_client[0]}", f"--kubelet-client-key={kubelet_client[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            # An endpoint for 127.0.0.1 is refused by the API itself.
            *(["--endpoint-reconciler-type=none"] if address == "127.0.0.1" else []), *flags], folder / "kube-apiserver.log")
        self.admin = self.kubeconfig("admin", ["system:masters"])
        certificate, key = self.authority.issue("python", "admin", ["system:masters"])
        self._tls = ssl.create_default_context(cafile=self.ca)
        self._anonymous_tls = ssl.create_default_context(cafile=self.ca)
        self._tls.load_cert_chain(certificate, key)
        self._etcd = Daemon(*self._etcd_command)
        self.start()

    # -- its life -----------------------------------------------------------------------------------------------------
    def start(self, *flags, wait=True):
        """Starts kube-apiserver, the first time or again on the same port and data."""
        name, argv, log = self._command
        self.daemon = Daemon(name, [*argv, *flags], log)
        if wait:
            wait_until("a ready kube-apiserver", self.ready, timeout=90, daemons=[self.daemon, self._etcd])

    def ready(self):
        return self.request("GET", "/readyz", timeout=2) == "ok" and bool(self.get("/api/v1/namespaces/default"))

    def stop(self):
        """Stops kube-apiserver alone; etcd keeps what it knows. At once: its own drain takes a minute."""
        self.daemon.process.kill()
        self.daemon.stop()

    def pause(self):
        """It accepts connections, and answers nothing."""
        self.daemon.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.daemon.process.send_signal(signal.SIGCONT)

    def close(self):
        self.stop()
        self._etcd.stop(grace=3)

    # -- access -------------------------------------------------------------------------------------------------------
    def kubeconfig(self, user, groups=(), name=None, server=None, token=None, embed=True):
        """A kubeconfig file for a user by client certificate, or by `token`. embed=False names files instead of data."""
        name = name or user.replace(":", "-")
        path = self.folder / f"{name}.kubeconfig"
        if token is not None:
            identity = {"token": token}
        else:
            certificate, key = self.authority.issue(f"user-{name}", user, groups)
            identity = ({"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)} if embed else
                        {"client-certificate": str(certificate), "client-key": str(key)})
        trust = {"certificate-authority-data": _base64(self.ca)} if embed else {"certificate-authority": str(self.ca)}
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "main",
            "clusters": [{"name": "main", "cluster": {"server": server or self.url, **trust}}],
            "users": [{"name": "main", "user": identity}],
            "contexts": [{"name": "main", "context": {"cluster": "main", "user": "main"}}]}, indent=1))
        path.chmod(0o600)
        return path

    def request(self, method, path, body=None, token=None, content_type="application/json", timeout=20):
        """The parsed answer, or its text when it is no JSON; an Answer is raised for an HTTP error.

        As a cluster administrator, unless a `token` is given.
        """
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"Accept": "application/json"})
        if data is not None:
            request.add_header("Content-Type", content_type)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        context = self._tls if token is None else self._anonymous_tls
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise Answer(error.code, method, path, _message(text)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{method} {path}: {error}") from None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def patch(self, path, body, **options):
        """A JSON merge patch."""
        return self.request("PATCH", path, body, content_type="application/merge-patch+json", **options)

    def delete(self, path, force=False):
        """force: at once, as for a pod that no kubelet will confirm."""
        return self.request("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"} if force else None)

    def kubectl(self, *arguments, check=True, timeout=120, input=None):
        return run([toolchain.kubernetes("kubectl") / "kubectl", "--kubeconfig", self.admin, *arguments], check=check,
                   timeout=timeout, input=input, env={"KUBECACHEDIR": str(self.folder / "kubectl-cache")})

    def apply(self, manifest):
        """Applies YAML text or one object."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("apply", "-f", "-", input=text)

    # -- objects, as controllers and a kubelet would make them ----------------------------------------------------------
    def ensure(self, path, body):
        """Creates it unless it is there."""
        try:
            return self.post(path, body)
        except Answer as error:
            if error.code != 409:
                raise
            return None

    def make_namespace(self, name, labels=None):
        self.ensure("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        return self.get(f"/api/v1/namespaces/{name}")

    def make_service_account(self, namespace, name="default"):
        self.make_namespace(namespace)
        self.ensure(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def make_node(self, name, labels=None, address="10.99.0.1"):
        """A Node that says it is ready; nothing runs on it."""
        self.ensure("/api/v1/nodes", {"metadata": {"name": name, "labels": labels or {}}})
        self.patch(f"/api/v1/nodes/{name}/status", {"status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]}})
        return self.get(f"/api/v1/nodes/{name}")

    def make_pod(self, namespace, name, node, service_account="default", labels=None, images=("localhost/test:1",), spec=None,
                 container_ids=None, owner=None):
        """A pod on `node` whose status says it runs; `container_ids` one for each image, random when not given."""
        self.make_service_account(namespace, service_account)
        metadata = {"name": name, "labels": labels or {}}
        if owner:
            metadata["ownerReferences"] = [owner]
        self.post(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": {
            "nodeName": node, "serviceAccountName": service_account, "automountServiceAccountToken": False,
            "containers": [{"name": f"c{n}", "image": image} for n, image in enumerate(images)], **(spec or {})}})
        self.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": {
            "phase": "Running", "podIP": "10.88.0.9", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": f"c{n}", "image": image, "imageID": f"{image.rsplit(':', 1)[0]}@sha256:{'%064x' % (n + 1)}", "ready": True,
                "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                "containerID": "containerd://" + (container_ids[n] if container_ids else secrets.token_hex(32))}
                for n, image in enumerate(images)]}})
        return self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def delete_pod(self, namespace, name):
        self.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", force=True)

    def token(self, namespace, service_account, audience=None, pod=None, seconds=600):
        """A token by TokenRequest, bound to `pod` (an object) when given. The API server's shortest is 600 s."""
        spec = {"expirationSeconds": seconds}
        if audience:
            spec["audiences"] = [audience] if isinstance(audience, str) else list(audience)
        if pod:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        answer = self.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
                           {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
        return answer["status"]["token"]

    def sign_token(self, claims):
        """A token of any claims, signed with this cluster's own service-account key: for what TokenRequest does not give."""
        public = run(["openssl", "pkey", "-in", self.signing_key, "-pubout", "-outform", "DER"], text=False).stdout
        key_id = _base64url(run(["openssl", "dgst", "-sha256", "-binary"], input=public, text=False).stdout)
        head = _base64url(json.dumps({"alg": "RS256", "kid": key_id}).encode())
        signed = f"{head}.{_base64url(json.dumps(claims).encode())}"
        signature = run(["openssl", "dgst", "-sha256", "-sign", self.signing_key], input=signed.encode(), text=False).stdout
        return f"{signed}.{_base64url(signature)}"


def claims_of(token):
    """The claims of a JWT, unverified."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _base64(path):
    return base64.b64encode(path.read_bytes()).decode()


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _message(text):
    try:
        return json.loads(text).get("message", text)
    except (ValueError, AttributeError):
        return text[:300]
