"""The worker agent: takes a job from the planner, and calls the tool with a token of its own, narrower than the one it was
called with. Its token says: for that user, by me, because of the planner."""

import sys

import identity
import resource

URI, ORDERS_URI, ORDERS_ADDRESS = sys.argv[1:]


def handle(body, token, _claims):
    narrower = identity.exchange(token, [ORDERS_URI], [identity.tool_call(ORDERS_URI, body["tool"])])
    return identity.call(ORDERS_ADDRESS, ORDERS_URI, narrower["access_token"],
                         {"tool": body["tool"], "task": body["task"], "order": body.get("order")})


resource.serve(URI, handle)
