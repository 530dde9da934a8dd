"""A small HTTP server for programs that take calls: whoever calls must present a token, and the agent judges it."""

import http.server
import json

import identity


def serve(uri, handle, offers_tools=False):
    """Answers POST / with handle(body, token, claims). Prints "listening ADDRESS" and does not return."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1 << 16)) or b"{}")
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            try:
                claims = identity.introspect(token, self.headers.get("DPoP", ""), "POST", uri,
                                             body.get("tool", "") if offers_tools else "", body.get("task", ""))
                if scheme != "DPoP" or not claims.get("active"):
                    raise identity.Refused(401, {"error": "invalid_token"})
                status, answer = 200, handle(body, token, claims)
            except identity.Refused as refused:
                status, answer = refused.status, {"error": refused.error, "reason": refused.reason}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print("listening", "%s:%d" % server.server_address, flush=True)
    server.serve_forever()


def actors(claims):
    """Who acts, outermost first, and for whom."""
    names, act = [], claims.get("act")
    while act:
        names.append(act["sub"].rsplit("/agent/", 1)[-1])
        act = act.get("act")
    return " <- ".join(names + [claims.get("sub", "?")])
