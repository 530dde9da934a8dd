"""The planner agent: acts for a user who handed it a token, within one task, and gives jobs to the worker."""

import json
import sys

import identity

WORKER_URI, WORKER_ADDRESS, ORDERS_URI, USER_TOKEN_FILE, TASK = sys.argv[1:]

with open(USER_TOKEN_FILE, encoding="ascii") as file:
    user_token = file.read().strip()
delegated = identity.exchange(user_token, [WORKER_URI, ORDERS_URI], [identity.tool_call(ORDERS_URI, "query_orders")],
                              scope="jobs:run", task=TASK)
print(json.dumps({"access_token": delegated["access_token"]}), flush=True)

for line in sys.stdin:  # one job a line
    job = json.loads(line)
    try:
        answer = identity.call(WORKER_ADDRESS, WORKER_URI, delegated["access_token"], {**job, "task": TASK})
        print(json.dumps({"answer": answer}), flush=True)
    except identity.Refused as refused:
        print(json.dumps({"refused": str(refused)}), flush=True)
