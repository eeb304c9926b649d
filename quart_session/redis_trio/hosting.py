"""Tasks that outlive their caller, and waiting that a busy event loop does not cut short."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from quart_session.deadline import STEPS

T = TypeVar("T")


class Hosted:
    """Something that begins and ends in a task of its own, which no caller's cancellation reaches.

    It is a system task, so it needs no nursery, and Trio ends it with the event loop.

    :param run: called as ``run(task_status=…)``, as ``nursery.start()`` does.
    """

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        self.ready = trio.Event()
        """It has started, or ended without that."""
        self.ended = trio.Event()
        self._run = run
        self._result: Any = None
        self._error: Exception | None = None
        self._scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._task)

    async def _task(self) -> None:
        try:
            with self._scope:
                self._result = await self._run(task_status=self)
        except Exception as error:  # a system task that raises would end the program
            self._error = error
        finally:
            self.ready.set()
            self.ended.set()

    def started(self, value: object = None) -> None:
        """What it runs calls this on its ``task_status``."""
        self.ready.set()

    async def start(self) -> None:
        """Wait until it has started; raise what prevented it."""
        if not self.ready.is_set():
            await self.ready.wait()
        if self._error is not None:
            raise self._error

    async def result(self) -> Any:
        """Wait until it has ended; return its result, or raise its error."""
        await self.ended.wait()
        await self.start()
        return self._result

    def cancel(self) -> None:
        self._scope.cancel()


async def patiently(seconds: float, wait: Callable[[], Awaitable[T]]) -> T:
    """Wait for what *wait* waits for, which may be cancelled and called again.

    :raises TimeoutError: it takes longer than *seconds*.
    """
    # A busy event loop reads an answer some turns after it came. With each step it has a turn.
    for _ in range(STEPS):
        with trio.move_on_after(seconds / STEPS):
            return await wait()
    raise TimeoutError(f"no answer within {seconds:g} s")
