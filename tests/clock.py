"""A clock for tests that ask whether something came in time, on a machine that has other work."""

from __future__ import annotations

import time
from pathlib import Path

# Its second number: nanoseconds that the thread was ready to run and did not.
_STATISTICS = Path("/proc/thread-self/schedstat")


def clock() -> float:
    """Seconds, as ``time.monotonic()`` has them, less those for which this thread wanted to run and
    other programs had the processor. Where that is not known, which is everywhere but on Linux,
    nothing is taken off. Two readings compare in one thread only."""
    try:
        withheld = int(_STATISTICS.read_text().split()[1]) / 1e9
    except OSError:
        withheld = 0.0
    return time.monotonic() - withheld
