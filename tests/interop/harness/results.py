"""What the run prints: one PASS, FAIL or SKIP line per check, and the count that ends it."""

import contextlib
import time
import traceback


class Abort(Exception):
    """The suite cannot go on; the failure or skip that says why is already printed."""


class Results:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.suite = ""
        self.failures = []

    def ok(self, name, seconds=None):
        self.passed += 1
        took = "" if seconds is None else f"  ({seconds:.1f} s)"
        print(f"PASS {self.suite}/{name}{took}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        self.failures.append(f"{self.suite}/{name}")
        print(f"FAIL {self.suite}/{name}: {why}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        banner = "!" * 78
        print(f"{banner}\nSKIP {self.suite}/{name}: NOT TESTED: {why}\n{banner}", flush=True)

    @contextlib.contextmanager
    def check(self, name, abort=False):
        """Runs the body as one check. With abort=True a failure ends the suite, for what the rest stands on."""
        started = time.monotonic()
        try:
            yield
        except (Abort, KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # noqa: BLE001 - a check may fail in any way, and the run goes on
            self.fail(name, describe(error))
            if abort:
                raise Abort(name) from error
        else:
            self.ok(name, time.monotonic() - started)

    def counts(self):
        """What add() takes: the results of a run in another process."""
        return {"passed": self.passed, "failed": self.failed, "skipped": self.skipped, "failures": self.failures}

    def add(self, counts):
        self.passed += counts["passed"]
        self.failed += counts["failed"]
        self.skipped += counts["skipped"]
        self.failures += counts["failures"]

    def close(self):
        if self.failures:
            print("failed: " + " ".join(self.failures))
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed or self.passed + self.skipped == 0 else 0


def describe(error):
    """One line for what is expected to fail, with the place for what is not."""
    if isinstance(error, (AssertionError, Failure)):
        where = "" if str(error) else f" at {traceback.extract_tb(error.__traceback__)[-1].line}"
        return f"{error}{where}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})"


class Failure(Exception):
    """A check's negative outcome with its reason."""


def require(condition, why):
    """An assert that python -O does not drop."""
    if not condition:
        raise Failure(why)


def note(text):
    print(f"  .. {text}", flush=True)
