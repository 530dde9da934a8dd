"""The client libraries. Each program prints CHECK lines, which become ours."""

import os

from harness import system, toolchain
from harness.process import run
from harness.results import require

_ROTATIONS = 3


def go(results, context):
    binary = toolchain.go_programs() / "workload"
    env = {**context.system().environment(), "INTEROP_ROTATIONS": str(_ROTATIONS), "INTEROP_TIMEOUT": "150s"}
    run_program(results, [binary], env, 170)


def ca_rotation(results, context):
    """The Go program again on a server whose authorities live a minute, until three X.509 and JWT authorities were seen.

    By the rule that SPIRE and Signet share, the next authority is prepared at half life and takes over at 5/6 of it.
    """
    binary = toolchain.go_programs() / "workload"
    short_lived = system.System(context.folder("carot"), context.server, context.agent, ca_ttl="60s", x509_ttl=10)
    try:
        env = {**short_lived.environment(), "INTEROP_AUTHORITIES": "3", "INTEROP_TIMEOUT": "240s"}
        run_program(results, [binary], env, 260)
    finally:
        short_lived.stop()


def python(results, context):
    interpreter = toolchain.python()
    run_program(results, [interpreter, toolchain.HERE / "python" / "workload.py"], context.system().environment(), 150)


def rust(results, context):
    program = toolchain.rust_program()
    run_program(results, [program], context.system().environment(), 150)


def java(results, context):
    command = toolchain.java_command()
    run_program(results, command, context.system().environment(), 180)


def mixed(results, context, server_make, agent_make):
    """The Go program, through one rotation, on a server and an agent of two makes."""
    binary = toolchain.go_programs() / "workload"
    mixture = system.System(context.folder("mixed"), server_make, agent_make)
    try:
        env = {**mixture.environment(), "INTEROP_ROTATIONS": "1", "INTEROP_TIMEOUT": "90s"}
        run_program(results, [binary], env, 100, prefix="go_client/")
    finally:
        mixture.stop()


def run_program(results, argv, env, timeout, prefix=""):
    """Runs a program that reports CHECK lines; it must report some, say it is done, and agree with its exit code."""
    done = run(argv, timeout=timeout, env=env, check=False)
    passed = failed = 0
    for line in done.stdout.splitlines():
        if line.startswith("CHECK PASS "):
            passed += 1
            results.ok(prefix + line.removeprefix("CHECK PASS "))
        elif line.startswith("CHECK FAIL "):
            failed += 1
            name, _, why = line.removeprefix("CHECK FAIL ").partition(": ")
            results.fail(prefix + name, why)
    with results.check(prefix + "ran_to_its_end"):
        require("CHECK DONE" in done.stdout.splitlines() and passed + failed > 0 and (done.returncode == 0) == (failed == 0),
                f"{os.path.basename(str(argv[0]))} exited {done.returncode} after {passed + failed} checks: {done.stderr[-800:]}")
