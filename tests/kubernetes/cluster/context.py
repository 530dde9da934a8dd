"""What a suite is given: folders, and one cluster that the suites of a run share."""

from harness.results import note

from .api_server import ApiServer
from .node import Node
from .signet import Signet


class Context:
    def __init__(self, root):
        self._root = root
        self._api = None
        self._node = None
        self._signet = None

    def folder(self, name):
        path = self._root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def api(self):
        """An API server alone, started at the first call, replaced when it has died. Its objects stay between suites."""
        if self._api and not self._api.daemon.alive():
            self._api.close()
            self._api = None
        if not self._api:
            note("starting etcd and kube-apiserver")
            self._api = ApiServer(self._root / "api")
        return self._api

    def node(self):
        """The whole node, started at the first call; only for suites of NODE_SUITES. Suites use namespaces of their own on it."""
        if not self._node:
            note("starting a node")
            self._node = Node(self._root / "node")
        return self._node

    def signet(self):
        """The chart as it is by default on node(), installed at the first call, with the programs under test."""
        if not self._signet:
            note("installing the chart")
            self._signet = Signet(self.node())
        return self._signet
