#!/usr/bin/env python3
"""Two decisions, one in C++ and one in Python, give the same answer to generated requests: agree_test.py MAKE_CASES.

SIGNET_NIGHTLY: ten times as many. The outcomes that were met are counted, so that a generator that tests little shows."""

import collections
import json
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import decide  # noqa: E402

WORLDS = 2000


def main(make_cases):
    worlds = WORLDS * (10 if os.environ.get("SIGNET_NIGHTLY") else 1)
    outcomes, wrong = collections.Counter(), 0
    with subprocess.Popen([make_cases, str(worlds)], stdout=subprocess.PIPE, text=True) as cases:
        for line in cases.stdout:
            case = json.loads(line)
            first, second = case["answer"], decide.decide(case["input"])
            if "error" in first:
                outcomes[f"{first['error']}/{first['reason']}"] += 1
            else:
                outcomes["granted " + case["input"]["kind"]] += 1
            if first != second:
                wrong += 1
                if wrong <= 3:
                    print(f"FAIL {json.dumps(case['input'])}\n  C++    {json.dumps(first)}\n  Python {json.dumps(second)}")
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    total = sum(outcomes.values())
    print(f"{total} requests, {wrong} disagreements")
    missing = [kind for kind in ("client_credentials", "first_hop", "new_hop", "narrow", "refresh") if not outcomes["granted " + kind]]
    if missing:
        print(f"FAIL nothing granted for {missing}")
    return 1 if wrong or missing or cases.returncode or total < worlds or len(outcomes) < 20 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
