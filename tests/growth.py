"""How the cost of a call grows with its input, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PROPORTIONAL = 64
"""Growth below this is in proportion when the input is sixteen times as large: it would be 16, and
256 where the cost is the square. So wide a gap needs no quiet machine."""


def growth(function: Callable[[Any], Any], small: Any, large: Any) -> float:
    """How many times more processor time *function* takes for *large* than for *small*."""
    return seconds(function, large) / seconds(function, small)


def seconds(function: Callable[[Any], Any], argument: Any) -> float:
    best = float("inf")
    for _ in range(7):
        start = time.process_time()
        function(argument)
        best = min(best, time.process_time() - start)
    return best
