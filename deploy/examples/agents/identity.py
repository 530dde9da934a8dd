"""What an agent program needs to act with delegated authority: one Unix socket. No secret, no TLS, no library."""

import http.client
import json
import os
import socket
import urllib.parse

TOKEN_SOCKET = os.environ.get("SIGNET_TOKEN_SOCKET", "/run/signet/workload/token.sock")
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class Refused(Exception):
    """The token service or a resource said no: `error`, and why where it may be told."""

    def __init__(self, status, answer):
        self.status, self.error, self.reason = status, answer.get("error", ""), answer.get("reason", "")
        super().__init__(f"{status} {self.error}" + (f" ({self.reason})" if self.reason else ""))


class _UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(TOKEN_SOCKET)


def _send(connection, path, body, headers):
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    answer = json.loads(text) if text else {}
    if response.status >= 400:
        raise Refused(response.status, answer)
    return answer


def _ask_agent(path, form):
    return _send(_UnixConnection("localhost", timeout=10), path, urllib.parse.urlencode(form, doseq=True),
                 {"Content-Type": "application/x-www-form-urlencoded"})


def exchange(subject_token, resources, details, **more):
    """A token that is narrower than `subject_token`, for this process, for the first of `resources`; the further ones are
    those that whoever serves the first will have to call in turn."""
    form = {"grant_type": EXCHANGE, "subject_token": subject_token, "subject_token_type": ACCESS_TOKEN,
            "resource": resources, "authorization_details": json.dumps(details), **more}
    return _ask_agent("/oauth2/token", form)


def introspect(token, proof, method, uri, tool="", task=""):
    """What a token that somebody presented here may do; {"active": False} when nothing."""
    form = {"token": token, "dpop": proof, "htm": method, "htu": uri}
    form.update({name: value for name, value in (("tool", tool), ("task", task)) if value})
    return _ask_agent("/oauth2/introspect", form)


def call(address, uri, token, body):
    """Calls the resource `uri`, which listens at `address`, with the token and a proof that it is ours."""
    proof = _ask_agent("/oauth2/dpop", {"htm": "POST", "htu": uri, "access_token": token})["dpop"]
    host, port = address.rsplit(":", 1)
    return _send(http.client.HTTPConnection(host, int(port), timeout=20), "/", json.dumps(body),
                 {"Authorization": f"DPoP {token}", "DPoP": proof, "Content-Type": "application/json"})


def tool_call(resource, *tools):
    return {"type": "mcp_tool_call", "locations": [resource], "tools": list(tools)}
