"""Compare the arms, and both with Flask, on random input: ``python tests/hotpath/fuzz.py``.

The suite runs a short form of the same; this is for as many cases as one has time for.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from comparing import (
    check_encoding,
    check_flask_reads,
    check_reading,
    check_reading_like_flask,
    check_survival,
)

CHECKS = {
    "encode": check_encoding,
    "decode": check_reading,
    "flask-encode": check_flask_reads,
    "flask-decode": check_reading_like_flask,
    "survive": check_survival,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of each check")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help="all of them by default")
    options = parser.parse_args()
    sys.setrecursionlimit(20_000)
    seed = random.SystemRandom().getrandbits(48) if options.seed is None else options.seed
    for name in options.checks or CHECKS:
        start = time.perf_counter()
        try:
            counts = CHECKS[name](random.Random(seed), options.cases)
        except AssertionError:
            print(f"{name}: seed {seed}", flush=True)
            raise
        seconds = time.perf_counter() - start
        print(f"{name}: {counts} in {seconds:.0f} s, seed {seed}", flush=True)


if __name__ == "__main__":
    main()
