"""Sessions in one SQLite file, shared by all threads and worker processes of a machine.

The event loop itself reads and writes, and never waits for a lock: what finds the file locked is
tried again a little later, and the writes that wait so are committed together. That takes 10 to
30 µs. A worker thread would add ten times that, and far more when the event loop is busy: the
thread needs the interpreter for each statement, and has the file locked meanwhile. Threads do only
what waits for the disk: they open the file, copy its log into it and remove many records.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyio import CapacityLimiter, Event, sleep
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from quart_session.deadline import STEPS, deadline
from quart_session.errors import ConfigError, StoreError
from quart_session.stores.base import (
    ABSENT,
    ANY,
    Conflict,
    Expect,
    Record,
    Store,
    Version,
    digest,
)
from quart_session.stores.sqlite_file import Busy, NotOpen, SQLiteFile, is_busy

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

T = TypeVar("T")

FILE_NAME = "sessions.sqlite3"

TOGETHER = 64
"""Writes that are committed at once at most. The event loop stands still meanwhile."""

SWEEP = 4
"""Expired records that a write removes at most. It adds one, so expiry keeps pace."""

STEP = 500
"""Expired records that are removed at once when all of them shall go. Writers wait meanwhile."""

STEP_TIMEOUT = 30.0
"""Seconds for that, and for the disk to take it. No request waits for it."""

# With an id, which is made from the key, a record is found in one tree, not in an index and then in
# the table: with a million records that takes a third off the time. `expires` is wall-clock time,
# in seconds: processes share it and it outlives a restart.
SCHEMA = """
CREATE TABLE IF NOT EXISTS quart_sessions (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    expires REAL NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS quart_sessions_expires ON quart_sessions (expires);
"""
# An editor of tables may have stored text in place of bytes.
SELECT = """
SELECT CAST(data AS BLOB), expires FROM quart_sessions WHERE id = ? AND key = ? AND expires > ?
"""
# Another key with the same id is not written over: that changes no row.
UPSERT = """
INSERT INTO quart_sessions (id, key, data, expires) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET key = excluded.key, data = excluded.data, expires = excluded.expires
WHERE key = excluded.key OR expires <= ?
"""
DELETE = "DELETE FROM quart_sessions WHERE id = ? AND key = ?"
TOUCH = "UPDATE quart_sessions SET expires = ? WHERE id = ? AND key = ? AND expires > ?"
PURGE = """
DELETE FROM quart_sessions
WHERE id IN (SELECT id FROM quart_sessions WHERE expires <= ? LIMIT ?)
"""


class SQLiteStore(Store):
    """Keeps records in an SQLite file, which needs no server.

    The file is created at first use, readable for its owner only, and its folder with it. It must
    lie on a local disk, since SQLite's write-ahead log needs memory that processes share. A write
    survives a crash of the process at once; a power cut may take back the last few writes
    (``PRAGMA synchronous = NORMAL``), never damage the file. Room of removed records is used
    again, so the file stops growing.

    The event loop never waits for a lock. It waits for the operating system, which answers from
    memory, and from the disk where nobody has read for long: some 0.1 ms, more where others keep
    that disk busy.

    :param path: the file.
    :param timeout: seconds that a call may wait for others that use the file.

    .. versionadded:: 4.0
    """

    trio = True
    timely = True

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 1.0) -> None:
        if os.fspath(path) == ":memory:":
            raise ConfigError("SESSION_SQLITE_PATH = ':memory:': use SESSION_TYPE = 'memory'")
        self._timeout = timeout
        self._file = SQLiteFile(Path(path), SCHEMA, timeout)
        self._errors = _Errors(self.path, timeout)
        self._in_queues = 0
        # Each event loop has its own.
        self._queues: RunVar[list[_Write[Any]]] = RunVar("quart_session_sqlite_queue")
        self._openings: RunVar[list[Event]] = RunVar("quart_session_sqlite_openings")
        self._limiters: RunVar[CapacityLimiter] = RunVar("quart_session_sqlite_limiter")

    @classmethod
    def from_config(cls, config: SessionConfig) -> SQLiteStore:
        """Use ``SESSION_SQLITE_PATH``, by default a file in the application's instance folder.

        A relative path starts from that folder, too.
        """
        if (config.uri or "").startswith("sqlite:"):
            raise ConfigError("SESSION_URI is for servers; a file goes into SESSION_SQLITE_PATH")
        path = Path(config.instance_path, config.sqlite_path or FILE_NAME)
        return cls(path, timeout=config.timeout)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._file.path

    async def open(self) -> None:
        with self._errors:
            await self._soon(lambda db: None, time.monotonic())

    async def close(self) -> None:
        with self._errors:
            await self._in_thread(self._file.close, self._timeout)

    async def get(self, key: str) -> Record | None:
        with self._errors:
            return await self._soon(lambda db: _select(db, key, time.time()), time.monotonic())

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        def write(db: sqlite3.Connection, now: float) -> Version | Conflict:
            if expected is not ANY:
                record = _select(db, key, now)
                if (ABSENT if record is None else record.version) != expected:
                    return Conflict(record)
            # One chance in ten trillion, for a new session beside a million others.
            if not db.execute(UPSERT, (_id(key), key, data, now + ttl, now)).rowcount:
                raise sqlite3.IntegrityError("another key has the same id")
            return digest(data)

        return await self._write(write, len(data))

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        def remove(db: sqlite3.Connection, now: float) -> Conflict | None:
            if expected is not ANY:
                record = _select(db, key, now)
                if record is not None and record.version != expected:
                    return Conflict(record)
            db.execute(DELETE, (_id(key), key))
            return None

        return await self._write(remove)

    async def touch(self, key: str, ttl: float) -> bool:
        def extend(db: sqlite3.Connection, now: float) -> bool:
            return db.execute(TOUCH, (now + ttl, _id(key), key, now)).rowcount > 0

        return await self._write(extend)

    async def purge_expired(self) -> int:
        def step() -> int:
            with self._file.aside() as db:
                return db.execute(PURGE, (time.time(), STEP)).rowcount

        await self.open()
        removed = 0
        with self._errors:
            while some := await self._in_thread(step, STEP_TIMEOUT):
                removed += some
        return removed

    async def _write(self, change: _Change[T], size: int = 0) -> T:
        """Commit *change*, by which *size* bytes of data are written."""
        write = _Write(change, size)
        with self._errors:
            if not self._in_queues:
                with suppress(Busy, NotOpen):
                    self._file.use(partial(self._commit, [write]))
            if not write.done:
                await self._wait_to_commit(write)
            if self._file.behind:
                with suppress(TimeoutError):
                    await self._in_thread(self._file.catch_up, self._left(write.since))
            return write.result()

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
        results = _transaction(db, writes)
        for write, result in zip(writes, results, strict=True):
            write.succeed(result)
        self._file.wrote(sum(write.size for write in writes))

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


_Change = Callable[[sqlite3.Connection, float], T]
"""Part of a transaction that began at that time."""


class _Write(Generic[T]):
    """What one caller wants to have committed."""

    def __init__(self, change: _Change[T], size: int) -> None:
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


def _transaction(db: sqlite3.Connection, writes: list[_Write[Any]]) -> list[Any]:
    # Takes the file's write lock at once, so that what is read inside stays true.
    db.execute("BEGIN IMMEDIATE")
    try:
        now = time.time()
        results = [write.change(db, now) for write in writes]
        db.execute(PURGE, (now, SWEEP * len(writes)))
        db.execute("COMMIT")
        return results
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _select(db: sqlite3.Connection, key: str, now: float) -> Record | None:
    row = db.execute(SELECT, (_id(key), key, now)).fetchone()
    if row is None:
        return None
    data, expires = row
    return Record(data, digest(data), expires - now)


def _id(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)
