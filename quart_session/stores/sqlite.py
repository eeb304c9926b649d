"""Sessions in one SQLite file, shared by all threads and worker processes of a machine."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, TypeVar
from weakref import WeakSet

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from quart_session.deadline import Patience, deadline
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

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

T = TypeVar("T")

FILE_NAME = "sessions.sqlite3"

GRACE = 0.05
"""Seconds that a thread has for the last attempt before the event loop stops waiting for it."""

# `expires` is wall-clock time, in seconds: processes share it and it outlives a restart.
SCHEMA = """
CREATE TABLE IF NOT EXISTS quart_sessions (
    key TEXT NOT NULL PRIMARY KEY,
    data BLOB NOT NULL,
    expires REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS quart_sessions_expires ON quart_sessions (expires);
"""
# An editor of tables may have stored text in place of bytes.
SELECT = """
SELECT CAST(data AS BLOB), expires FROM quart_sessions WHERE key = ? AND expires > ?
"""
UPSERT = """
INSERT INTO quart_sessions (key, data, expires) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET data = excluded.data, expires = excluded.expires
"""
DELETE = "DELETE FROM quart_sessions WHERE key = ?"
TOUCH = "UPDATE quart_sessions SET expires = ? WHERE key = ? AND expires > ?"
PURGE = """
DELETE FROM quart_sessions
WHERE rowid IN (SELECT rowid FROM quart_sessions WHERE expires <= ? LIMIT ?)
"""


class SQLiteStore(Store):
    """Keeps records in an SQLite file, which needs no server.

    The file is created at first use, readable for its owner only, and its folder with it. It must
    lie on a local disk, since SQLite's write-ahead log needs memory that processes share. A write
    survives a crash of the process at once; a power cut may take back the last few writes, never
    damage the file. Room of removed records is used again, so the file stops growing.

    :param path: the file.
    :param timeout: seconds that a call may wait for other processes that use the file. The wait
        for other calls of this process counts only while none of them gets anywhere, so many
        callers at once are no outage.

    .. versionadded:: 4.0
    """

    trio = True
    timely: ClassVar[bool] = True

    # A write adds one row at most and removes up to that many, so that expiry keeps pace.
    _SWEEP = 4

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 1.0) -> None:
        if os.fspath(path) == ":memory:":
            raise ConfigError("SESSION_SQLITE_PATH = ':memory:': use SESSION_TYPE = 'memory'")
        self._path = Path(path)
        self._timeout = timeout
        # Readers never wait for a writer in SQLite; with a lane each they do not here, either.
        self._reads = _Lane(self._path, timeout)
        self._writes = _Lane(self._path, timeout)

    @classmethod
    def from_config(cls, config: SessionConfig) -> SQLiteStore:
        """Use ``SESSION_SQLITE_PATH``, by default a file in the application's instance folder.

        A relative path starts from that folder, too.
        """
        path = Path(config.instance_path, config.sqlite_path or FILE_NAME)
        return cls(path, timeout=config.timeout)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    async def close(self) -> None:
        await self._in_thread(self._reads, _Lane.close)
        await self._in_thread(self._writes, _Lane.close)

    async def get(self, key: str) -> Record | None:
        return await self._query(self._reads, lambda db: _select(db, key, time.time()))

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        def write(db: sqlite3.Connection) -> Version | Conflict:
            now = time.time()
            with _transaction(db):
                if expected is not ANY:
                    record = _select(db, key, now)
                    if (ABSENT if record is None else record.version) != expected:
                        return Conflict(record)
                db.execute(UPSERT, (key, data, now + ttl))
                db.execute(PURGE, (now, self._SWEEP))
            return digest(data)

        return await self._query(self._writes, write)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        def remove(db: sqlite3.Connection) -> Conflict | None:
            with _transaction(db):
                if expected is not ANY:
                    record = _select(db, key, time.time())
                    if record is not None and record.version != expected:
                        return Conflict(record)
                db.execute(DELETE, (key,))
            return None

        return await self._query(self._writes, remove)

    async def touch(self, key: str, ttl: float) -> bool:
        def extend(db: sqlite3.Connection) -> bool:
            now = time.time()
            return db.execute(TOUCH, (now + ttl, key, now)).rowcount > 0

        return await self._query(self._writes, extend)

    async def purge_expired(self) -> int:
        removed = 0
        # In small steps, between which others get their turn.
        while step := await self._query(
            self._writes, lambda db: db.execute(PURGE, (time.time(), 1000)).rowcount
        ):
            removed += step
        return removed

    async def _query(self, lane: _Lane, query: Callable[[sqlite3.Connection], T]) -> T:
        began = time.monotonic()
        return await self._in_thread(lane, partial(_Lane.query, query=query, began=began))

    async def _in_thread(self, lane: _Lane, call: Callable[[_Lane], T]) -> T:
        """Give *lane* to *call* in a worker thread, so that the event loop never waits for a disk.

        What a thread has begun it ends, and it holds the lane until then, so a connection is never
        seen in the middle of something.
        """
        try:
            # The thread watches the clock itself, unless the disk hangs.
            async with deadline(self._timeout + GRACE, lambda: lane.patience.last_answer):
                return await run_sync(call, lane, limiter=lane.limiter())
        except (sqlite3.Error, OSError) as error:
            # A TimeoutError has no text of its own.
            reason = str(error) or f"no answer within {self._timeout:g} s"
            raise StoreError(f"SQLite file {str(self._path)!r}: {reason}") from error


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    # Takes the file's write lock at once, so that what is read inside stays true.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


class _Lane:
    """One connection, and the turn to use it."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self.patience = Patience(timeout)
        # Threads of several event loops may meet here; those of one queue at the limiter before.
        self.lock = Lock()
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar("quart_session_sqlite")
        _lanes.add(self)

    def limiter(self) -> anyio.CapacityLimiter:
        """Return what lets the running event loop's calls in, one at a time and in their order."""
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(1)
            self._limiter.set(limiter)
            return limiter

    def query(self, query: Callable[[sqlite3.Connection], T], began: float) -> T:
        """Run *query*, again and again while another process has the file, if not for too long."""
        limit = time.monotonic() + self.patience.left(began)
        while True:
            # Another event loop's thread may hold it, and a disk may hang there.
            if not self.lock.acquire(timeout=max(limit - time.monotonic(), 0)):
                raise TimeoutError
            try:
                result = self._attempt(query)
                self.patience.answered()
                return result
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if time.monotonic() >= limit:
                    self.patience.timed_out()
                    raise
            finally:
                self.lock.release()
            # SQLite's own busy handler sleeps up to 100 ms at a time; under steady writing by
            # several processes one of them would starve.
            time.sleep(random.uniform(0.0002, 0.002))

    def close(self) -> None:
        with self.lock:
            self.drop()

    def drop(self) -> None:
        """Close the connection. The caller holds the lock."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _attempt(self, query: Callable[[sqlite3.Connection], T]) -> T:
        # A file that was deleted or replaced would go on in this process, and in no other.
        if self._db is not None and _identity(self._path) != self._file:
            self.drop()
        if self._db is None:
            self._db = _connect(self._path)
            self._file = _identity(self._path)
        try:
            return query(self._db)
        except sqlite3.Error as error:
            # Whatever it was, the next call finds the file as it is then.
            if not _is_busy(error):
                with suppress(sqlite3.Error):
                    self.drop()
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # SQLite gives the mode of this file to the files that it puts beside it.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.chmod(path, 0o600)  # the umask may have taken the owner's rights away
        finally:
            os.close(descriptor)
    # No wait inside SQLite (timeout=0) and no implicit transactions (isolation_level=None). The
    # lane's lock lets one thread at a time use the connection.
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _select(db: sqlite3.Connection, key: str, now: float) -> Record | None:
    row = db.execute(SELECT, (key, now)).fetchone()
    if row is None:
        return None
    data, expires = row
    return Record(data, digest(data), expires - now)


def _is_busy(error: sqlite3.Error) -> bool:
    # The low byte is the code, the rest says more about it.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


# A connection must not cross a fork, not even unused: SQLite would take the parent's locks for the
# child's. So a fork waits for its turn in every lane, and closes what is open.
_lanes: WeakSet[_Lane] = WeakSet()
_held: list[_Lane] = []


def _before_fork() -> None:
    for lane in sorted(_lanes, key=id):  # one order, lest two forking threads wait for each other
        lane.lock.acquire()
        _held.append(lane)
        with suppress(sqlite3.Error):
            lane.drop()


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
