"""The tool: an order book with two operations, one harmless, one not. It trusts no caller, only the token."""

import sys

import identity
import resource

URI = sys.argv[1]
ORDERS = {"17": {"customer": "c-17", "total": 40}, "20": {"customer": "c-20", "total": 99}}


def handle(body, _token, claims):
    print(f"  orders-api: {body['tool']} by {resource.actors(claims)}", flush=True)
    if body["tool"] == "query_orders":
        return {"orders": ORDERS}
    if body["tool"] == "refund_order":
        return {"refunded": body["order"]}
    raise identity.Refused(404, {"error": "unknown_tool"})


resource.serve(URI, handle, offers_tools=True)
