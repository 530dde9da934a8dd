"""A process of the node that calls the Workload API from wherever the suite puts it: in cgroups of its choice, with a
socket that another process connected, with a number that another process had. Prints one JSON object.

  caller.py SOCKET call CGROUP...                  from these cgroups
  caller.py SOCKET crowd COUNT CGROUP...           COUNT processes at once, half of which are killed soon
  caller.py SOCKET reuse AGENT ATTACKER VICTIM     a process in ATTACKER connects and dies, one in VICTIM gets its number,
                                                   then the call is made; AGENT: a process to stop meanwhile, or 0
  caller.py SOCKET race ROUNDS ATTACKER VICTIM     processes with one number, in turn in ATTACKER and VICTIM, each of which
                                                   calls; those of ATTACKER die at once
ATTACKER and VICTIM are cgroup directories, joined by commas."""

import ctypes
import json
import os
import pathlib
import signal
import socket
import sys
import time

import workload_api

_SYS_CLONE3 = 435
_libc = ctypes.CDLL(None, use_errno=True)


class _CloneArgs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup")]


def fork_as(number):
    """fork(), and the child has this process id; it must be free."""
    wanted = (ctypes.c_int * 1)(number)
    arguments = _CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    pid = _libc.syscall(_SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid < 0:
        raise OSError(ctypes.get_errno(), f"clone3 with process id {number}")
    return pid


def join(cgroups):
    for cgroup in cgroups:
        pathlib.Path(cgroup, "cgroup.procs").write_text("0", encoding="ascii")


def call(connection):
    started = time.monotonic()
    try:
        return {"ids": workload_api.fetch(connection), "seconds": time.monotonic() - started}
    except workload_api.Refused as why:
        return {"ids": [], "refused": str(why), "seconds": time.monotonic() - started}


def connected(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def end(code=0):
    os._exit(code)  # a child: nothing of the parent's is flushed or closed twice


def crowd(path, count, cgroups):
    """Every ID that one of them was given. The cgroups may vanish with all in them: the kubelet removes what it does not know."""
    result, write = os.pipe()
    children = []
    for _ in range(count):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                join(cgroups)
                os.write(write, b"".join(b"%s\n" % i.encode() for i in ["called", *call(connected(path))["ids"]]))
            finally:
                end()
    os.close(write)
    time.sleep(0.5)
    for child in children[::2]:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    with os.fdopen(result) as source:
        lines = source.read().split()
    return {"ids": sorted({line for line in lines if line != "called"}), "answered": lines.count("called")}


def reuse(path, agent, attacker, victim):
    connection = socket.socket(socket.AF_UNIX)
    if agent:
        os.kill(agent, signal.SIGSTOP)  # it accepts only when both are done
    try:
        first = os.fork()
        if first == 0:
            join(attacker)
            connection.connect(path)
            end()
        os.waitpid(first, 0)
        ready, announce = os.pipe()
        second = fork_as(first)
        if second == 0:
            join(victim)
            os.write(announce, b".")
            signal.pause()
        os.read(ready, 1)
    finally:
        if agent:
            os.kill(agent, signal.SIGCONT)
    answer = call(connection)
    os.kill(second, signal.SIGKILL)
    os.waitpid(second, 0)
    return {**answer, "number": first, "reused": first == second}


def race(path, rounds, attacker, victim):
    """The answers of VICTIM's processes, and every ID that ATTACKER's were given."""
    number, given, stolen, refused = 0, set(), set(), 0
    for turn in range(rounds * 2):
        hostile = turn % 2 == 0
        result, write = os.pipe()
        child = fork_as(number) if number else os.fork()
        if child == 0:
            join(attacker if hostile else victim)
            connection = connected(path)
            if hostile and turn % 4 == 0:  # asks, and is gone before the answer
                connection.sendall(workload_api.request())
                end()
            os.write(write, json.dumps(call(connection)).encode())
            end()
        os.close(write)
        os.waitpid(child, 0)
        number = child
        with os.fdopen(result, "rb") as source:
            answer = json.loads(source.read() or b'{"ids": []}')
        (stolen if hostile else given).update(answer["ids"])
        refused += not hostile and not answer["ids"]
    return {"attacker": sorted(stolen), "victim": sorted(given), "victim_refused": refused}


def main():
    path, verb, *words = sys.argv[1:]
    if verb == "call":
        join(words)
        print(json.dumps(call(connected(path))))
    elif verb == "crowd":
        print(json.dumps(crowd(path, int(words[0]), words[1:])))
    elif verb == "reuse":
        print(json.dumps(reuse(path, int(words[0]), words[1].split(","), words[2].split(","))))
    elif verb == "race":
        print(json.dumps(race(path, int(words[0]), words[1].split(","), words[2].split(","))))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
