"""Turns of callers with an SQLite file.

The event loop itself reads and writes, and never waits for a lock: what finds the file locked is
tried again a little later, and the writes that wait so are committed together. That takes 10 to
30 µs. A worker thread would add ten times that, and far more when the event loop is busy: the
thread needs the interpreter for each statement, and has the file locked meanwhile. Threads do only
what waits for the disk: they open the file, copy its log into it and remove many records.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from anyio import CapacityLimiter, Event, sleep
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from quart_session.deadline import STEPS, deadline
from quart_session.errors import StoreError
from quart_session.stores.sqlite_file import Busy, NotOpen, SQLiteFile, is_busy

T = TypeVar("T")

Change = Callable[[sqlite3.Connection, float], T]
"""Part of a transaction that began at that time, by the wall clock."""

TOGETHER = 64
"""Writes that are committed at once at most. The event loop stands still meanwhile."""


class Turns:
    """Gives callers of any event loop their turn with a file.

    :param tidy: is called at the end of each transaction, with its time and how many changes it
        has.
    :param timeout: seconds that a caller may wait for others that use the file.
    """

    def __init__(
        self,
        file: SQLiteFile,
        tidy: Callable[[sqlite3.Connection, float, int], object],
        timeout: float,
    ) -> None:
        self._file = file
        self._tidy = tidy
        self._timeout = timeout
        self._errors = _Errors(file.path, timeout)
        self._in_queues = 0
        # Each event loop has its own.
        self._queues: RunVar[list[_Write[Any]]] = RunVar("quart_session_sqlite_queue")
        self._openings: RunVar[list[Event]] = RunVar("quart_session_sqlite_openings")
        self._limiters: RunVar[CapacityLimiter] = RunVar("quart_session_sqlite_limiter")

    async def read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Give the connection to *call*."""
        with self._errors:
            return await self._soon(call, time.monotonic())

    async def write(self, change: Change[T], size: int = 0) -> T:
        """Commit *change*, by which *size* bytes of data are written."""
        write = _Write(change, size)
        with self._errors:
            if not self._in_queues:
                with suppress(Busy, NotOpen):
                    self._file.use(partial(self._commit, [write]))
            if not write.done:
                await self._wait_to_commit(write)
            if self._file.behind:
                # The thread watches the clock, too: asyncio would leave it behind, one for each
                # caller, and Trio would wait for it.
                wait = partial(self._file.catch_up, write.since + self._timeout)
                with suppress(TimeoutError):
                    await self._in_thread(wait, self._left(write.since))
            return write.result()

    async def aside(self, call: Callable[[sqlite3.Connection], T], seconds: float) -> T:
        """Give another connection to *call*, in a thread, which others need not wait for."""

        def step() -> T:
            with self._file.aside() as db:
                return call(db)

        with self._errors:
            return await self._in_thread(step, seconds)

    async def close(self) -> None:
        """Close the file. It is opened again for who comes later."""
        with self._errors:
            await self._in_thread(self._file.close, self._timeout)

    async def _wait_to_commit(self, write: _Write[T]) -> None:
        """Stand in a queue, whose first tries for all of them."""
        queue = self._of_this_loop(self._queues, list)
        queue.append(write)
        self._in_queues += 1
        try:
            if queue[0] is not write:
                await write.called.wait()
            while not write.done:
                await self._soon(partial(self._commit_first, queue), write.since)
        except TimeoutError as error:
            for other in queue:
                if self._left(other.since) < 0:
                    other.fail(error)
            raise
        finally:
            self._in_queues -= 1
            # This one leaves in any case: the change of a cancelled caller is made or never will.
            for other in [other for other in queue if other.done or other is write]:
                queue.remove(other)
                other.called.set()
            if queue:
                queue[0].called.set()

    def _commit_first(self, queue: list[_Write[Any]], db: sqlite3.Connection) -> None:
        writes = [write for write in queue if not write.done][:TOGETHER]
        try:
            self._commit(writes, db)
        except Exception as error:
            if is_busy(error):
                raise
            # One that cannot be carried out must not take the others along.
            for write in writes:
                try:
                    self._commit([write], db)
                except Exception as error:
                    if is_busy(error):
                        raise
                    write.fail(error)

    def _commit(self, writes: list[_Write[Any]], db: sqlite3.Connection) -> None:
        results = self._transaction(db, writes)
        for write, result in zip(writes, results, strict=True):
            write.succeed(result)
        self._file.wrote(sum(write.size for write in writes))

    def _transaction(self, db: sqlite3.Connection, writes: list[_Write[Any]]) -> list[Any]:
        # Takes the file's write lock at once, so that what is read inside stays true.
        db.execute("BEGIN IMMEDIATE")
        try:
            now = time.time()
            results = [write.change(db, now) for write in writes]
            self._tidy(db, now, len(writes))
            db.execute("COMMIT")
            return results
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    async def _soon(self, call: Callable[[sqlite3.Connection], T], since: float) -> T:
        """Give the connection to *call* as soon as it is free, within the timeout."""
        tries = 0
        while True:
            try:
                return self._file.use(call)
            except Busy:
                tries += 1
                # An event loop that is behind has not tried often by then.
                if tries >= STEPS and self._left(since) < 0:
                    raise TimeoutError(f"locked for {self._timeout:g} s") from None
                # Another process is done within microseconds, most often.
                await sleep(0 if tries <= 3 else random.uniform(0.0002, 0.002))
            except NotOpen:
                await self._open(self._left(since))

    async def _open(self, seconds: float) -> None:
        """Have a thread open the file, or wait until one that another caller has sent is done."""
        openings = self._of_this_loop(self._openings, list)
        if openings:
            async with deadline(seconds):
                await openings[0].wait()
            return
        openings.append(opening := Event())
        try:
            with suppress(Busy):
                await self._in_thread(self._file.open, seconds)
        finally:
            openings.remove(opening)
            opening.set()

    def _left(self, since: float) -> float:
        return since + self._timeout - time.monotonic()

    async def _in_thread(self, call: Callable[[], T], seconds: float) -> T:
        # One after the other: they would wait for each other in their threads.
        limiter = self._of_this_loop(self._limiters, partial(CapacityLimiter, 1))
        async with deadline(seconds):
            return await run_sync(call, limiter=limiter)

    def _of_this_loop(self, var: RunVar[T], make: Callable[[], T]) -> T:
        try:
            return var.get()
        except LookupError:
            var.set(made := make())
            return made


class _Write(Generic[T]):
    """What one caller wants to have committed."""

    def __init__(self, change: Change[T], size: int) -> None:
        self.change = change
        self.size = size
        self.since = time.monotonic()
        self.done = False
        self._result: T
        self._error: Exception | None = None

    @cached_property
    def called(self) -> Event:
        """Set when it is done, or first in the queue."""
        return Event()

    def succeed(self, result: T) -> None:
        self.done, self._result = True, result

    def fail(self, error: Exception) -> None:
        self.done, self._error = True, error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


class _Errors:
    """Makes errors of the file errors of the store, wherever it is entered."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.Error | OSError):
            # A TimeoutError may have no text of its own.
            reason = str(error) or f"no answer within {self._timeout:g} s"
            raise StoreError(f"SQLite file {str(self._path)!r}: {reason}") from error
