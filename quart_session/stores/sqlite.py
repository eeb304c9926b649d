"""Sessions in one SQLite file, shared by all threads and worker processes of a machine."""

from __future__ import annotations

import os
import sqlite3
import time
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from quart_session.errors import ConfigError
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
from quart_session.stores.sqlite_file import SQLiteFile
from quart_session.stores.sqlite_turns import Turns

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

FILE_NAME = "sessions.sqlite3"

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
        self._file = SQLiteFile(Path(path), SCHEMA, timeout)
        self._turns = Turns(self._file, _remove_some_expired, timeout)

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
        await self._turns.read(lambda db: None)

    async def close(self) -> None:
        await self._turns.close()

    async def get(self, key: str) -> Record | None:
        return await self._turns.read(lambda db: _select(db, key, time.time()))

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

        return await self._turns.write(write, len(data))

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        def remove(db: sqlite3.Connection, now: float) -> Conflict | None:
            if expected is not ANY:
                record = _select(db, key, now)
                if record is not None and record.version != expected:
                    return Conflict(record)
            db.execute(DELETE, (_id(key), key))
            return None

        return await self._turns.write(remove)

    async def touch(self, key: str, ttl: float) -> bool:
        def extend(db: sqlite3.Connection, now: float) -> bool:
            return db.execute(TOUCH, (now + ttl, _id(key), key, now)).rowcount > 0

        return await self._turns.write(extend)

    async def purge_expired(self) -> int:
        await self.open()
        removed = 0
        while some := await self._turns.aside(
            lambda db: db.execute(PURGE, (time.time(), STEP)).rowcount, STEP_TIMEOUT
        ):
            removed += some
        return removed


def _remove_some_expired(db: sqlite3.Connection, now: float, changes: int) -> None:
    db.execute(PURGE, (now, SWEEP * changes))


def _select(db: sqlite3.Connection, key: str, now: float) -> Record | None:
    row = db.execute(SELECT, (_id(key), key, now)).fetchone()
    if row is None:
        return None
    data, expires = row
    return Record(data, digest(data), expires - now)


def _id(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)
