"""A deadline that measures the backend, not the load of the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context

STEPS = 10
"""A busy event loop reads an answer some turns after it came. The deadline advances in so many
steps, each of one turn at least, so that a loop that is behind does not blame the backend."""


class Patience:
    """How long the callers of one backend wait for it while they queue for few connections.

    :param seconds: what the backend has for each call.

    .. versionadded:: 4.0
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last_answer = -math.inf
        self._last_timeout = -math.inf

    def answered(self) -> None:
        """The backend answered one of them."""
        self.last_answer = time.monotonic()

    def timed_out(self) -> None:
        """One of them waited in vain."""
        self._last_timeout = time.monotonic()

    def left(self, began: float) -> float:
        """What the backend has for a call that *began* then and whose turn comes now.

        The wait for a turn is no wait for the backend while that answers others, nor while the
        event loop is just busy. In an outage it is, lest calls wait for one after the other.
        """
        last_sign = max(began, self.last_answer)
        if self._last_timeout > last_sign:
            return last_sign + self.seconds - time.monotonic()
        return self.seconds


@asynccontextmanager
async def deadline(
    seconds: float, last_heard: Callable[[], float] | None = None
) -> AsyncIterator[None]:
    """Raise :exc:`TimeoutError` when the body takes longer than *seconds*.

    :param last_heard: the time, by the monotonic clock, when the backend last answered anybody.
        Given that, *seconds* begin anew with each such answer, for a body that waits in a queue;
        under Trio such a body has no deadline of its own.

    .. versionadded:: 4.0
    """
    if seconds <= 0:
        raise TimeoutError
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # Trio
        if last_heard is not None:
            yield
            return
        async with _trio_deadline(seconds):
            yield
        return
    async with asyncio.timeout(None) as scope:
        timer = _Timer(seconds, last_heard, scope)
        try:
            yield
        finally:
            timer.stop()


class _Timer:
    """Ends *scope* after *seconds*.

    It keeps no request alive: a closure that calls itself later would, being a cycle, until the
    garbage collector comes, and a timer that was stopped, by its context, until its time has come.
    """

    def __init__(
        self, seconds: float, last_heard: Callable[[], float] | None, scope: asyncio.Timeout
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._seconds = seconds
        self._last_heard = last_heard
        self._scope = scope
        self._pause = seconds / STEPS
        self._steps = STEPS
        self._handle = self._later(self._pause, self._step)

    def stop(self) -> None:
        self._handle.cancel()

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, call, context=Context())

    def _step(self) -> None:
        self._steps -= 1
        if not self._steps and self._last_heard is not None:
            left = self._last_heard() + self._seconds - time.monotonic()
            if left > 0:
                self._pause, self._steps = left / STEPS, STEPS
        if self._steps:
            self._handle = self._later(self._pause, self._step)
        else:
            self._scope.reschedule(self._loop.time())
            self._handle = self._later(self._seconds, self._cancel_again)

    def _cancel_again(self) -> None:
        # Before Python 3.12 asyncio.wait_for() swallows a cancellation that comes as it ends.
        assert self._task is not None
        self._task.cancel()
        self._task.uncancel()  # for the scope this is still the same one
        self._handle = self._later(self._seconds, self._cancel_again)


@asynccontextmanager
async def _trio_deadline(seconds: float) -> AsyncIterator[None]:
    import trio

    async def step() -> None:
        with watch:
            for _ in range(STEPS):
                await trio.sleep(seconds / STEPS)
            scope.cancel()

    watch = trio.CancelScope()
    with trio.CancelScope() as scope:
        trio.lowlevel.spawn_system_task(step)  # a nursery would turn errors into groups
        try:
            yield
        finally:
            watch.cancel()
    if scope.cancelled_caught:
        raise TimeoutError
