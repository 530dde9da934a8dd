"""Answers A questions for Services, in place of a cluster's CoreDNS: NAME.NAMESPACE.svc.cluster.local and nothing else."""

import socket
import struct
import threading

from harness.results import Failure

_SUFFIX = ["svc", "cluster", "local"]


class ServiceDns:
    """Serves UDP `address`:53 from a thread of its own until close(). Looks each name up in the API server."""

    def __init__(self, api, address):
        self._api = api
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)
        self._thread.start()

    def close(self):
        self._socket.close()

    def _serve(self):
        while True:
            try:
                question, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            try:
                self._socket.sendto(self._answer(question), sender)
            except (OSError, IndexError, struct.error, Failure):
                pass  # the resolver asks again

    def _answer(self, message):
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode("ascii", "replace").lower())
            at += 1 + message[at]
        question = message[12:at + 5]
        kind, _ = struct.unpack(">HH", message[at + 1:at + 5])
        addresses = self._addresses(labels)
        code = 3 if addresses is None else 0  # NXDOMAIN, or no error with perhaps nothing of this kind
        records = [a for a in addresses or () if kind == 1]
        head = message[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0)
        return head + question + b"".join(
            struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in records)

    def _addresses(self, labels):
        """Of the Service, or of the pods behind a headless one; None when there is no such name."""
        if len(labels) not in (5, 6) or labels[-3:] != _SUFFIX:
            return None
        namespace, name = labels[-4], labels[-5]
        try:
            service = self._api.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        except Failure as error:
            if getattr(error, "code", 0) == 404:
                return None
            raise
        if service["spec"].get("clusterIP") not in ("None", "", None):
            return [service["spec"]["clusterIP"]] if len(labels) == 5 else None
        endpoints = self._api.get(f"/api/v1/namespaces/{namespace}/endpoints/{name}")
        found = [a for subset in endpoints.get("subsets") or [] for a in subset.get("addresses") or []]
        return [a["ip"] for a in found if len(labels) == 5 or a.get("hostname") == labels[0]]
