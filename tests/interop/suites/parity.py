"""The same table of RPCs to SPIRE and to the server under test; codes and answers must agree."""

import fnmatch
import json

from harness import process, toolchain
from harness.results import require
from harness.system import SERVERS, TRUST_DOMAIN

_CASES = toolchain.HERE / "suites" / "parity.cases"
_ALLOWED = toolchain.HERE / "suites" / "parity.allowed"


def run(results, context):
    toolchain.spire()
    program = toolchain.go_programs() / "parity"
    theirs = play(program, context.folder("parity") / "spire", "spire")
    ours = play(program, context.folder("parity") / "tested", context.server)
    allowed = read_allowed()
    used = set()
    for name, want in theirs.items():
        got = ours.get(name, {"code": "not answered"})
        same = got["code"] == want["code"] and got.get("answer") == want.get("answer")
        reason = next((pattern for pattern in allowed if fnmatch.fnmatch(name, pattern)), None)
        if same:
            results.ok(name)
        elif reason:
            used.add(reason)
            results.ok(f"{name} (differs on purpose: {allowed[reason]})")
        else:
            results.fail(name, f"SPIRE {brief(want)}; here {brief(got)}")
    if context.server != "spire":
        for pattern in sorted(allowed.keys() - used):
            with results.check(f"allowed {pattern}"):
                require(False, "listed in parity.allowed, but nothing differs any more: remove the line")


def play(program, folder, make):
    server = SERVERS[make](folder)
    try:
        done = process.run([program, _CASES], timeout=120, check=False, env={
            "INTEROP_ADMIN_SOCKET": str(server.admin_socket), "INTEROP_SERVER": server.address, "INTEROP_TRUST_DOMAIN": TRUST_DOMAIN})
        lines = [line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("CASE ")]
        require(done.stdout.endswith("CASES DONE\n"), f"against {make} it stopped after {len(lines)} cases: {done.stderr[-500:]}")
        return {name: json.loads(answer) for name, answer in lines}
    finally:
        server.stop()


def read_allowed():
    pairs = [line.split(None, 1) for line in _ALLOWED.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {pattern: reason for pattern, reason in pairs}


def brief(answer):
    return " ".join(str(part) for part in (answer["code"], answer.get("message") or "", json.dumps(answer["answer"]) if answer.get("answer") else "") if part)
