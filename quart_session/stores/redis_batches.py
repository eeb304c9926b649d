"""The way to Redis: commands that wait in the same turn of the event loop leave together.

A round trip costs the client far more than a command does, so with 64 requests at once a command
costs a quarter of what it costs alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Protocol

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    MaxConnectionsError,
    RedisClusterException,
    TryAgainError,
)
from redis.exceptions import TimeoutError as NoAnswer

from quart_session.deadline import Patience, deadline

MOST = 16
"""Commands of one batch. They share the fate of their connection, and more save little."""

CONNECTIONS = 16
"""Batches on their way at once. One process is served no faster by more of them."""

PAUSE = 0.05
"""Seconds before what cannot work yet is tried again."""


class TooFewReplicas(ConnectionError):
    """The master takes no writes, since ``min-replicas-to-write`` says so. It may have been
    replaced without knowing."""


FAILED = (ConnectionError, NoAnswer, OSError, ClusterDownError)
"""Errors after which another server may have to answer."""

MAY_PASS = (*FAILED, RedisClusterException, AskError, TryAgainError)
"""Errors that may be gone in a moment: also slots that nobody has, or that move to another node."""


class Call:
    """One command, and the future of its answer.

    :param repeat_with: arguments to add when it is sent again, since it may have been carried out.
    """

    __slots__ = ("_args", "_repeat_with", "_times", "answer", "trouble")

    def __init__(self, args: tuple[Any, ...], repeat_with: tuple[Any, ...] = ()) -> None:
        self._args = args
        self._repeat_with = repeat_with
        self._times = 0
        self.trouble: Exception | None = None
        """Why it was not answered yet."""
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def send(self) -> tuple[Any, ...]:
        """What goes on the wire now."""
        args = (*self._args, *self._repeat_with) if self._times else self._args
        self._times += 1
        return args

    @property
    def key(self) -> str:
        """The one key that each of our commands has."""
        key: str = self._args[3 if self._args[0] in ("EVALSHA", "EVAL") else 1]
        return key

    @property
    def repeated(self) -> bool:
        """Whether it was sent more than once."""
        return self._times > 1

    def answered(self, answer: Any) -> None:
        """Give the caller, if it still waits, an answer or an error."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Way(Protocol):
    """How commands get to one shape of Redis and back."""

    width: int
    """How many batches may be on their way at once."""

    patient: bool
    """Whether to try until the deadline, since another server may take the place of the one that
    does not answer. Otherwise there are two attempts, the second for a connection that was old."""

    async def send(self, calls: Sequence[Call]) -> None:
        """Send *calls* and hand out those answers that came.

        :raises RedisError: some answers did not come; asking again may help.
        """


class Batches:
    """Sends commands in batches, each in a task of its own.

    So a caller that is cancelled leaves an answer that nobody wants, and no connection with an
    answer that is somebody else's. A batch ends by its deadline, with all that belongs to it: the
    connection, the second attempt.
    """

    def __init__(self, way: Way, timeout: float) -> None:
        self._way = way
        self._patience = Patience(timeout)
        # In their order: redis-py's own blocking pool is not fair, at 64 callers some wait for a
        # second while others go round.
        self._turn = asyncio.Semaphore(way.width)
        self._waiting: list[Call] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call) -> Any:
        """The answer to *call*.

        :raises TimeoutError: it did not come in time.
        :raises RedisError: the client's own error.
        """
        self._waiting.append(call)
        if len(self._waiting) % MOST == 1:
            self._begin()  # at once, where tasks are eager
        answer = await call.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _begin(self) -> None:
        # In no request's context, which timers of the client would keep alive for a while.
        task = asyncio.get_running_loop().create_task(self._carry(), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Whoever ends the event loop cancels it, maybe before it began; others came to rely on it.
        if self._waiting and not self._tasks:
            self._begin()

    async def finish(self) -> None:
        """Wait for what is on its way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _carry(self) -> None:
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        began = time.monotonic()
        try:
            async with self._turn, deadline(self._patience.left(began)):
                await self._deliver(batch)
        except TimeoutError as error:
            self._patience.timed_out()
            for call in batch:
                call.answered(call.trouble or error)
        except Exception as error:
            for call in batch:
                call.answered(error)
        finally:  # only who ends the event loop cancels this task
            for call in batch:
                call.answer.cancel()

    async def _deliver(self, batch: list[Call]) -> None:
        attempts = 0
        while calls := [call for call in batch if not call.answer.done()]:
            try:
                await self._way.send(calls)
            except AuthenticationError:
                raise
            except MAY_PASS as error:
                for call in calls:
                    call.trouble = error
                # Of a client that is not ours alone, others may have all connections.
                if not (isinstance(error, TooFewReplicas) or _is_exhaustion(error)):
                    attempts += 1
                    if attempts > 1 and not self._way.patient:
                        raise
                if attempts != 1:
                    await asyncio.sleep(PAUSE)
            finally:
                if any(call.answer.done() and not call.answer.cancelled() for call in calls):
                    self._patience.answered()


def _is_exhaustion(error: Exception) -> bool:
    # Pools of redis-py before 7.2 have no class of error for it.
    return isinstance(error, MaxConnectionsError) or "Too many connections" in str(error)
