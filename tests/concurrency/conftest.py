"""What the tests of requests side by side have in common, and how much they have tried."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import pytest

from quart_session import attempts


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of requests that lose their changes on purpose, and tries without pauses."""
    monkeypatch.setattr(attempts, "PAUSE", 0)
    monkeypatch.setattr(logging.getLogger("quart_session"), "disabled", True)


_counts: Counter[str] = Counter()


@pytest.fixture
def tally() -> Callable[[str, int], None]:
    """Count what was tried, for the summary."""

    def tally(name: str, count: int) -> None:
        _counts[name] += count

    return tally


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _counts:
        terminalreporter.section("what was tried")
        for name, count in sorted(_counts.items()):
            terminalreporter.line(f"{count:>10,}  {name}")
