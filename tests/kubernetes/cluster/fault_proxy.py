"""A TLS proxy in front of an ApiServer that does what a real one cannot be made to do: errors, silence, endless answers.

    proxy = FaultProxy(api); proxy.fault("/pods", Status(503)); proxy.clear()

It has the API server's own certificate, so clients trust it. A fault holds for every request whose method and path
contain its words, until clear(); a new fault is asked before older ones. `requests` lists (method, path) of all that came.
Its threads start no process.
"""

import http.client
import http.server
import json
import socket
import ssl
import threading
import urllib.parse

_CHUNK = 1 << 16


class Status:
    """An answer of that code, as the API server words it."""

    def __init__(self, code, message="made by the test", headers=None):
        self.code, self.message, self.headers = code, message, headers or {}

    def serve(self, handler):
        body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.code, "message": self.message}).encode()
        handler.answer(self.code, body, self.headers)


class Hang:
    """Nothing at all, until the client goes or the fault is cleared."""

    def serve(self, handler):
        handler.server.released.wait(120)
        handler.close_connection = True


class Slow:
    """The true answer, `seconds` late."""

    def __init__(self, seconds):
        self.seconds = seconds

    def serve(self, handler):
        handler.server.released.wait(self.seconds)
        handler.forward()


class Huge:
    """An answer of that many bytes of valid JSON."""

    def __init__(self, size=50 << 20):
        self.size = size

    def serve(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(self.size))
        handler.end_headers()
        head, tail = b'{"kind":"List","items":["', b'"]}'
        handler.wfile.write(head)
        left = self.size - len(head) - len(tail)
        while left > 0:
            handler.wfile.write(b"a" * min(left, _CHUNK))
            left -= min(left, _CHUNK)
        handler.wfile.write(tail)


class Body:
    """That text with a 200."""

    def __init__(self, text):
        self.text = text

    def serve(self, handler):
        handler.answer(200, self.text.encode(), {})


class GoneInWatch(Body):
    """A watch that begins and at once says that its version is too old."""

    def __init__(self):
        super().__init__(json.dumps({"type": "ERROR", "object": {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
            "message": "too old resource version: 1 (2)"}}) + "\n")


class Cut:
    """The true answer's beginning, and then the connection's end."""

    def __init__(self, after=200):
        self.after = after

    def serve(self, handler):
        handler.forward(limit=self.after)


class FaultProxy:
    """Listens on 127.0.0.1; `url`. `certificate`: another (certificate, key) than the API server's."""

    def __init__(self, api, certificate=None):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.target = api
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(certificate or api.serving))
        self._server.tls = context
        self._server.upstream = ssl.create_default_context(cafile=api.ca)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="fault proxy", daemon=True).start()

    @property
    def requests(self):
        with self._server.lock:
            return list(self._server.requests)

    def fault(self, words, what, method=None):
        """`words`: one or more, separated by blanks, that a path with its query contains."""
        with self._server.lock:
            self._server.faults.insert(0, (words.split(), method, what))
        self._server.cut_streams()

    def clear(self):
        with self._server.lock:
            self._server.faults.clear()
            released, self._server.released = self._server.released, threading.Event()
        released.set()

    def seen(self, words, method=None, after=0):
        """How many requests of that kind have come; `after`: not counting the first so many of all."""
        return sum(1 for m, path in self.requests[after:] if method in (None, m) and all(w in path for w in words.split()))

    def cut_streams(self):
        """Ends every connection, watches included."""
        self._server.cut_streams()

    def close(self):
        self.clear()
        self.cut_streams()
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.lock = threading.Lock()
        self.faults, self.requests, self.live = [], [], set()
        self.released = threading.Event()

    def finish_request(self, request, client_address):
        request.settimeout(30)
        with self.tls.wrap_socket(request, server_side=True) as secured:
            secured.settimeout(None)
            with self.lock:
                self.live.add(secured)
            try:
                self.RequestHandlerClass(secured, client_address, self)
            finally:
                with self.lock:
                    self.live.discard(secured)

    def handle_error(self, request, client_address):
        pass  # a client that went away is what many faults are about

    def cut_streams(self):
        with self.lock:
            live = list(self.live)
        for connection in live:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _serve(self):
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.requests.append((self.command, self.path))
            fault = next((what for words, method, what in self.server.faults
                          if method in (None, self.command) and all(w in self.path for w in words)), None)
        if fault:
            fault.serve(self)
        else:
            self.forward()

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 - names of http.server

    def answer(self, code, body, headers):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def forward(self, limit=None):
        """Asks the API server and passes its answer on piece by piece, as a watch needs it; `limit` bytes of it."""
        target = urllib.parse.urlsplit(self.server.target.url)
        upstream = http.client.HTTPSConnection(target.hostname, target.port, context=self.server.upstream)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "accept-encoding")}
        try:
            upstream.request(self.command, self.path, self._body or None, headers)
            answer = upstream.getresponse()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        try:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = 0
            while data := answer.read1(_CHUNK):
                if limit is not None and sent + len(data) > limit:
                    data = data[:limit - sent]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                sent += len(data)
            self.wfile.write(b"0\r\n\r\n")
        finally:
            upstream.close()

