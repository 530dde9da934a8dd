"""The loop over suites that every runner of this kind shares."""

import shutil
import time

from . import process, toolchain
from .results import Abort, describe, note


def run_suites(results, names, suites, context, root, keep=False):
    """Runs `names` of `suites` (name -> (function, what it shows, seconds)).

    Ends every daemon. `root` is deleted, unless `keep` is set or a check has failed.
    """
    try:
        for name in names:
            body, what, seconds = suites[name]
            results.suite = name
            note(f"{name}: {what} (about {seconds} s)")
            started = time.monotonic()
            before = results.failed
            try:
                body(results, context)
            except Abort:
                pass
            except toolchain.Missing as missing:
                results.skip("all", missing)
            except Exception as error:  # noqa: BLE001 - one suite's crash must not hide the others' results
                results.fail("suite", describe(error))
            keep = keep or results.failed > before
            note(f"{name}: {time.monotonic() - started:.0f} s")
    finally:
        process.stop_all()
        if keep:
            note(f"configurations and logs are in {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
