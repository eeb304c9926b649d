"""An SQLite file that an event loop can use: at once, or not at all."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TypeVar
from weakref import WeakSet

T = TypeVar("T")

LOG = 4_000_000
"""Bytes, about, that go into the write-ahead log before it is copied into the file."""

LOG_PAGES = 1000
"""The same in pages. Others get to write while so many are copied, and wait for fewer."""

LONGEST_LOG = 4000
"""Pages. The log begins anew when all of it has been copied and nobody has written meanwhile. Once
it is longer than this, writers are held up for a moment so that it comes to that."""

WRITE_COST = 12_000
"""Bytes, about, that a small change takes in the log."""

UNKNOWN = (-1, -1)


class Busy(Exception):
    """Somebody else has the file, in this process or another. Try again."""


class NotOpen(Exception):
    """The file is not open, or another file has its name by now. Call ``open`` in a thread."""


class SQLiteFile:
    """One connection to a file, with the care that WAL mode, other processes and forks need.

    :param schema: statements that make what is missing in the file.
    :param timeout: seconds that what runs in a thread may wait for other processes.
    """

    def __init__(self, path: Path, schema: str, timeout: float) -> None:
        self.path = path
        self._schema = schema
        self._timeout = timeout
        # Event loops may run in several threads.
        self._turn = Lock()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._log = 0
        self._aside = Lock()
        _files.add(self)

    def use(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Give *call* the connection. Never waits for anybody.

        :raises Busy: and *call* has changed nothing.
        :raises NotOpen: and *call* was not called.
        """
        if not self._turn.acquire(blocking=False):
            raise Busy
        try:
            # A file that was deleted or replaced would go on in this process, and in no other.
            if self._db is None or _identity(self.path) != self._identity:
                raise NotOpen
            return call(self._db)
        except sqlite3.Error as error:
            if is_busy(error):
                raise Busy from error
            # The next call finds the file as it is then; a disk that is full takes no new start.
            if not _is_of_the_disk(error):
                self._identity = UNKNOWN
            raise
        finally:
            self._turn.release()

    def open(self) -> None:
        """Open the file, which may take its time: call it in a thread.

        :raises Busy: another process is making it.
        """
        if not self._turn.acquire(timeout=self._timeout):  # a disk may hang there
            raise Busy
        try:
            if self._db is None or _identity(self.path) != self._identity:
                self._drop()
                self._db = _connect(self.path, self._schema)
                self._identity = _identity(self.path)
        except sqlite3.Error as error:
            if is_busy(error):
                raise Busy from error
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the file, in a thread. It may be opened again."""
        self.catch_up()
        with self._turn:
            self._drop()

    @contextmanager
    def aside(self) -> Iterator[sqlite3.Connection]:
        """Another connection to the file that is open, for a change in a thread."""
        with self._aside, self._second_connection() as db:
            yield db
            _copy_log(db)

    def wrote(self, size: int) -> None:
        """Take note of a change with so many bytes of data, during :meth:`use`.

        Now and then a thread copies the log into the file, which waits for the disk.
        """
        self._log += size + WRITE_COST
        if self._log > LOG and self._aside.acquire(blocking=False):
            self._log = 0
            try:
                Thread(target=self._copy_log, name="quart-session-sqlite").start()
            except RuntimeError:  # no thread can start any more when the interpreter ends
                self._aside.release()

    @property
    def behind(self) -> bool:
        """Whether the disk is slower than those who write. They should :meth:`catch_up`."""
        return self._log > 2 * LOG

    def catch_up(self, until: float | None = None) -> None:
        """Wait, in a thread, until the log has been copied, but no longer than *until*, a time of
        the monotonic clock."""
        left = -1 if until is None else max(0.0, until - time.monotonic())
        if self._aside.acquire(timeout=left):
            self._aside.release()

    def _copy_log(self) -> None:
        try:
            # In vain, if the disk is full: then it is tried again, and writers get their errors.
            with suppress(sqlite3.Error), self._second_connection() as db:
                _copy_log(db)
        finally:
            self._aside.release()

    @contextmanager
    def _second_connection(self) -> Iterator[sqlite3.Connection]:
        uri = self.path.absolute().as_uri() + "?mode=rw"  # which makes no file
        connection = sqlite3.connect(uri, uri=True, timeout=self._timeout, isolation_level=None)
        with closing(connection) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")
            yield db

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def is_busy(error: Exception) -> bool:
    """Whether *error* says that somebody else has the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_of_the_disk(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def _code(error: Exception) -> int:
    # The low byte is the code, the rest says more about it.
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # SQLite gives the mode of this file to the files that it puts beside it.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.chmod(path, 0o600)  # the umask may have taken the owner's rights away
        finally:
            os.close(descriptor)
    # No wait inside SQLite (timeout=0) and no implicit transactions (isolation_level=None). A lock
    # lets one thread at a time use the connection.
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # a thread does it
        db.executescript(schema)
    except BaseException:
        db.close()
        raise
    return db


def _copy_log(db: sqlite3.Connection) -> None:
    before = 0
    for _ in range(100):
        _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages < 0:  # another process is about it
            time.sleep(0.01)
        elif pages <= LONGEST_LOG:
            break
        elif pages - before <= LOG_PAGES:
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            break
        else:
            before = pages


# A connection must not cross a fork, not even unused: SQLite would take the parent's locks for the
# child's. So a fork waits until nobody uses a file, and closes what is open.
_files: WeakSet[SQLiteFile] = WeakSet()
_held: list[Lock] = []


def _before_fork() -> None:
    for file in sorted(_files, key=id):  # one order, lest two forking threads wait for each other
        for lock in (file._turn, file._aside):
            lock.acquire()
            _held.append(lock)
        file._drop()


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
