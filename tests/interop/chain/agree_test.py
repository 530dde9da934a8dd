#!/usr/bin/env python3
"""`signet chain verify` and verify_chain.py judge the same files, and agree: agree_test.py SIGNET MAKE_CASES.

MAKE_CASES writes good and bad chains with fresh keys; a good one must be proven and a bad one refused, by both."""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import verify_chain  # noqa: E402


def main(signet, make_cases):
    failures = 0
    with tempfile.TemporaryDirectory(prefix="signet-chains-") as folder:
        subprocess.run([make_cases, folder], check=True, timeout=60)
        paths = sorted(pathlib.Path(folder).glob("*.json"))
        for path in paths:
            run = subprocess.run([signet, "chain", "verify", str(path), "--output", "json"], capture_output=True, text=True, timeout=30)
            answer = json.loads(run.stdout) if run.stdout else {"proven": None, "problem": run.stderr.strip()}
            second = verify_chain.verify(json.loads(path.read_text()))
            expected = path.name.startswith("good-")
            if answer["proven"] is not expected or (not second) is not expected or (run.returncode == 0) is not expected:
                failures += 1
                print(f"FAIL {path.stem}: signet says {answer['problem'] or 'proven'!r}, the second says {second or 'proven'!r}")
        good = sum(path.name.startswith("good-") for path in paths)
    print(f"{good} good and {len(paths) - good} bad chains, {failures} disagreements")
    return 1 if failures or good < 5 or len(paths) - good < 30 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
