"""A deadline that measures the backend, not the load of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

STEPS = 10
"""A busy event loop reads an answer some turns after it came. The deadline advances in so many
steps, each of one turn at least, so that a loop that is behind does not blame the backend."""


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raise :exc:`TimeoutError` when the body takes longer than *seconds*.

    .. versionadded:: 4.0
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # Trio
        with anyio.fail_after(seconds):
            yield
        return

    left = STEPS
    timer: asyncio.TimerHandle

    def step() -> None:
        nonlocal left, timer
        left -= 1
        if left:
            timer = loop.call_later(seconds / STEPS, step)
        else:
            scope.reschedule(loop.time())

    async with asyncio.timeout(None) as scope:
        timer = loop.call_later(seconds / STEPS, step)
        try:
            yield
        finally:
            timer.cancel()
