"""Processes that end with the driver, and waits that are bounded and name what they waited for."""

import ctypes
import os
import signal
import socket
import subprocess
import time

from .results import Failure

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_daemons = []


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    """A child in a session of its own, its output in a file; killed with the driver, whichever way that ends."""

    def __init__(self, name, argv, log, env=None):
        self.name = name
        self.log = log
        with open(log, "ab") as sink:
            self.process = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=_die_with_parent)
        _daemons.append(self)

    def alive(self):
        return self.process.poll() is None

    def tail(self, lines=12):
        with open(self.log, "rb") as source:
            return b"\n".join(source.read().splitlines()[-lines:]).decode(errors="replace")

    def stop(self, grace=10):
        """SIGTERM, then SIGKILL. Returns the exit code; negative for a signal."""
        if self in _daemons:
            _daemons.remove(self)
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode


def stop_all():
    for daemon in reversed(list(_daemons)):
        daemon.stop(grace=3)


def run(argv, timeout=60, env=None, check=True, cwd=None, input=None, text=True):
    """Runs to the end and returns the CompletedProcess, its output as text or bytes; with check, a bad exit is a Failure."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, capture_output=True, text=text, timeout=timeout, cwd=cwd, input=input,
                              env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{_short(argv)}` did not end in {timeout} s: {error.output or ''}") from None
    except OSError as error:
        raise Failure(f"`{_short(argv)}` does not start: {error}") from None
    if check and done.returncode != 0:
        raise Failure(f"`{_short(argv)}` exited {done.returncode}: {last_lines(_text(done.stderr or done.stdout))}")
    return done


def _text(output):
    return output if isinstance(output, str) else output.decode(errors="replace")


def last_lines(text, count=4):
    return " | ".join(line.strip() for line in text.strip().splitlines()[-count:])


def _short(argv):
    return " ".join([os.path.basename(argv[0]), *argv[1:]])[:200]


def wait_until(what, condition, timeout=30, daemons=(), every=0.1):
    """Polls until `condition` gives something true and returns it. A Failure inside it means "not yet"."""
    end = time.monotonic() + timeout
    last = ""
    while True:
        try:
            value = condition()
            if value:
                return value
        except Failure as error:
            last = f"; last answer: {error}"
        for daemon in daemons:
            if not daemon.alive():
                raise Failure(f"{daemon.name} exited {daemon.process.returncode} while waiting for {what}:\n{daemon.tail()}")
        if time.monotonic() > end:
            tails = "".join(f"\n--- {d.name}:\n{d.tail()}" for d in daemons)
            raise Failure(f"no {what} within {timeout} s{last}{tails}")
        time.sleep(every)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(path):
    """Whether something listens on the Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
