"""The servers on which outages are tried, and what goes over the wire to them."""

from __future__ import annotations

import pytest

from quart_session.stores.redis_records import SET

LOAD = {"redis": b"EVALSHA", "memcached": rb"\bmg "}
"""Patterns: what a load has on the wire."""

SAVE = {"redis": SET.sha.encode(), "memcached": rb"\b(add|cas) "}
"""Patterns: what a save has there."""


def on(*backends: str) -> pytest.MarkDecorator:
    """Run a test on each of these, under whatever it runs."""
    loops = {"redis": ["asyncio", "trio"], "memcached": ["asyncio"]}
    pairs = [(backend, loop) for backend in backends for loop in loops[backend]]
    return pytest.mark.parametrize(("backend", "anyio_backend"), pairs)
