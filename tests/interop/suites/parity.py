"""The same table of RPCs to SPIRE and to what is under test; codes and answers must agree."""

import fnmatch
import json
import secrets

from harness import process, toolchain
from harness.results import require
from harness.system import SERVERS, System

_HERE = toolchain.HERE / "suites"


def server(results, context):
    toolchain.spire()
    compare(results, "server", context.server, lambda make: play_server(context, make))


def agent(results, context):
    toolchain.spire()
    compare(results, "agent", context.agent, lambda make: play_agent(context, make, make if make == "spire" else context.server))


def play_server(context, make):
    tested = SERVERS[make](context.folder(f"parity-{secrets.token_hex(2)}"))
    try:
        return play("parity.cases", {"INTEROP_ADMIN_SOCKET": str(tested.admin_socket), "INTEROP_SERVER": tested.address})
    finally:
        tested.stop()


def play_agent(context, make, server_make):
    tested = System(context.folder("wparity"), server_make, make, with_entry=False)
    try:
        env = {"INTEROP_WORKLOAD_SOCKET": str(tested.agent.workload_socket)}
        answers = play("workload.none.cases", env)
        tested.add_entry()
        return answers | play("workload.one.cases", env)
    finally:
        tested.stop()


def play(cases, env):
    done = process.run([toolchain.go_programs() / "parity", _HERE / cases], timeout=120, check=False, env=env)
    lines = [line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("CASE ")]
    require(done.stdout.endswith("CASES DONE\n"), f"it stopped after {len(lines)} cases: {done.stderr[-500:]}")
    return {name: json.loads(answer) for name, answer in lines}


def compare(results, side, make, play_make):
    """One result for each case. A difference passes when parity.allowed gives a reason."""
    theirs, ours = play_make("spire"), play_make(make)
    allowed = read_allowed(side)
    used = set()
    for name, want in theirs.items():
        got = ours.get(name, {"code": "not answered"})
        same = got["code"] == want["code"] and got.get("answer") == want.get("answer")
        pattern = next((p for p in allowed if fnmatch.fnmatch(name, p)), None)
        if same:
            results.ok(name)
        elif pattern:
            used.add(pattern)
            results.ok(f"{name} (differs on purpose: {allowed[pattern]})")
        else:
            results.fail(name, f"SPIRE {brief(want)}; here {brief(got)}")
    if make != "spire":
        for pattern in sorted(allowed.keys() - used):
            with results.check(f"allowed {pattern}"):
                require(False, "listed in parity.allowed, but nothing differs any more: remove the line")


def read_allowed(side):
    """Lines `side pattern reason` of parity.allowed for this side."""
    triples = [line.split(None, 2) for line in (_HERE / "parity.allowed").read_text().splitlines()
               if line.strip() and not line.startswith("#")]
    return {pattern: reason for where, pattern, reason in triples if where == side}


def brief(answer):
    parts = [answer["code"], answer.get("message"), json.dumps(answer["answer"]) if answer.get("answer") else ""]
    return " ".join(part for part in parts if part)
