"""Sessions in files, one each, shared by all threads and worker processes of a machine."""

from __future__ import annotations

import math
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from quart_session.deadline import Patience, deadline
from quart_session.errors import StoreError
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

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

T = TypeVar("T")

FOLDER = "sessions"

FOLDERS = [f"{number:02x}" for number in range(256)]
"""The folders below, by the first digits of the names in them. Each is locked for itself."""

NEW = ".new"
NAME_LENGTH = 64

THREADS = 4
"""So many threads of one event loop work on files; more of them are no faster."""

GRACE = 0.05
"""Seconds that a thread has for the last attempt before the event loop stops waiting for it."""

LONGEST = 200 * 365 * 86400
"""Seconds. File systems end in 2262 or later, and then a later date can become an early one."""


class FilesystemStore(Store):
    """Keeps each record as a file of its own, which needs no server.

    A file holds the plain data. Its name is a hash of the key, and its time of modification is the
    deadline: a copy keeps its life only if it keeps that time (``cp -p``, ``rsync -a``, ``tar``).

    Files are put in place as a whole, so a process that crashes leaves the old record or the new
    one. They are not forced to the disk: a power cut may take back the writes of the last half
    minute, and a file system that does not order its writes may leave such a file empty, which
    reads as no session.

    :param folder: where the files lie, made at first use, by default for its owner only. It must
        lie on a local disk, belong to the user who runs the processes, and not be writable for
        everybody.
    :param mode: of each file, for example ``0o640`` for a backup that runs as the group.
    :param threshold: while there are fewer files than about so many, writes leave expired ones
        alone.
    :param timeout: seconds that a call may wait for other processes that use the folder. The wait
        for other calls of this process counts only while none of them gets anywhere, so many
        callers at once are no outage.

    .. versionadded:: 4.0
    """

    trio = True
    timely = True

    # A write adds one file at most and looks at so many, so that expiry keeps pace.
    _SWEEP = 4

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        threshold: int = 500,
        timeout: float = 1.0,
    ) -> None:
        self._folder = Path(folder)
        self._mode = mode
        self._threshold = threshold
        self._timeout = timeout
        self._patience = Patience(timeout)
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar("quart_session_filesystem")
        self._trusted = False
        # What the next writes look at. Not from the start: a process may live shorter than a round.
        self._unseen: list[Path] = []
        start = random.randrange(len(FOLDERS))
        self._next_folder = cycle(FOLDERS[start:] + FOLDERS[:start])

    @classmethod
    def from_config(cls, config: SessionConfig) -> FilesystemStore:
        """Use ``SESSION_FILE_DIR``, by default a folder in the application's instance folder.

        A relative path starts from that folder, too.
        """
        return cls(
            Path(config.instance_path, config.file_dir or FOLDER),
            mode=config.file_mode,
            threshold=config.file_threshold,
            timeout=config.timeout,
        )

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self._folder

    async def open(self) -> None:
        await self._in_thread(self._make_folder)

    async def get(self, key: str) -> Record | None:
        path = self._path(key)

        def read() -> Record | None:
            # Windows does not replace a file that somebody has open.
            with self._locked(path.parent) if sys.platform == "win32" else nullcontext():
                return _read(path, time.time_ns())

        return await self._in_thread(read)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        path = self._path(key)

        def write() -> Version | Conflict:
            with self._locked(path.parent):
                now = time.time_ns()
                if expected is not ANY:
                    record = _read(path, now)
                    if (ABSENT if record is None else record.version) != expected:
                        return Conflict(record)
                self._put(path, data, now + _nanoseconds(ttl))
            self._sweep()
            return digest(data)

        return await self._in_thread(write)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        path = self._path(key)

        def remove() -> Conflict | None:
            with self._locked(path.parent):
                if expected is not ANY:
                    record = _read(path, time.time_ns())
                    if record is not None and record.version != expected:
                        return Conflict(record)
                path.unlink(missing_ok=True)
            return None

        return await self._in_thread(remove)

    async def touch(self, key: str, ttl: float) -> bool:
        path = self._path(key)

        def extend() -> bool:
            with self._locked(path.parent):
                now = time.time_ns()
                if _has_expired(path, now):
                    return False
                _set_deadline(path, now + _nanoseconds(ttl))
                return True

        return await self._in_thread(extend)

    async def purge_expired(self) -> int:
        def purge(folder: Path) -> int:
            now = time.time_ns()
            return self._remove_expired(
                folder, [path for path in _files(folder) if _has_expired(path, now)]
            )

        removed = 0
        for name in FOLDERS:
            removed += await self._in_thread(partial(purge, self._folder / name))
        return removed

    def _path(self, key: str) -> Path:
        name = sha256(key.encode(errors="surrogatepass")).hexdigest()
        return self._folder / name[:2] / name

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Make *call* in a worker thread, so that the event loop never waits for a disk.

        What a thread has begun it ends, so no cancellation leaves half of something.
        """
        began = time.monotonic()
        try:
            # The thread watches the clock itself, unless the disk hangs.
            async with deadline(self._timeout + GRACE, lambda: self._patience.last_answer):
                return await run_sync(self._attempt, call, began, limiter=self._turns())
        except OSError as error:
            # A TimeoutError has no text of its own.
            reason = error.strerror or f"no answer within {self._timeout:g} s"
            raise StoreError(f"session folder {str(self._folder)!r}: {reason}") from error

    def _turns(self) -> anyio.CapacityLimiter:
        """What lets the running event loop's calls in, a few at a time and in their order."""
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(THREADS)
            self._limiter.set(limiter)
            return limiter

    def _attempt(self, call: Callable[[], T], began: float) -> T:
        """Make *call*, again and again while others have what it needs, if not for too long."""
        limit = time.monotonic() + self._patience.left(began)
        while True:
            try:
                if not self._trusted:
                    self._trusted = self._is_trustworthy()
                result = call()
                self._patience.answered()
                return result
            except TAKEN as error:
                if time.monotonic() >= limit:
                    self._patience.timed_out()
                    reason = f"no turn within {self._timeout:g} s: {error.strerror}"
                    raise TimeoutError(error.errno, reason) from error
            time.sleep(random.uniform(0.0002, 0.002))

    # -- the folder

    def _is_trustworthy(self) -> bool:
        """Whether the folder is there and nobody else can put a session into it."""
        try:
            status = os.stat(self._folder)
        except FileNotFoundError:
            return False
        if sys.platform != "win32":
            if status.st_mode & stat.S_IWOTH:
                raise StoreError(
                    f"session folder {str(self._folder)!r}: everybody may write to it, and so make "
                    "sessions of their own; chmod 700 it, or name a folder inside of it"
                )
            if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
                raise StoreError(
                    f"session folder {str(self._folder)!r}: it belongs to another user (uid "
                    f"{status.st_uid}), who could make sessions of his own; chown it to uid "
                    f"{os.geteuid()}"
                )
        return True

    def _make_folder(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._make(self._folder)

    def _make(self, folder: Path) -> None:
        with suppress(FileExistsError):
            # Who may read the files may pass through their folder.
            mode = 0o700 | self._mode | (self._mode & 0o444) >> 2
            os.mkdir(folder, mode)
            os.chmod(folder, mode)  # the umask may have taken rights away

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Keep all others, threads and processes, from writing in *folder*.

        The operating system takes the lock from a process that dies.

        :raises TAKEN: somebody else has the lock.
        """
        try:
            descriptor = _open_lock(folder)
        except FileNotFoundError:
            self._make_folder()
            self._make(folder)
            descriptor = _open_lock(folder)
        _locks.add(descriptor)
        try:
            _lock(descriptor)
            try:
                yield
            finally:
                # Closing would not do: a child that was forked meanwhile has it open, too.
                _unlock(descriptor)
        finally:
            _locks.discard(descriptor)
            os.close(descriptor)

    # -- files; the caller holds the lock of their folder

    def _put(self, path: Path, data: bytes, expires: int) -> None:
        new = path.with_name(path.name + NEW)
        try:
            with open(new, "wb", opener=partial(os.open, mode=self._mode)) as file:
                os.chmod(new, self._mode)  # the umask may have taken rights away
                file.write(data)
            _set_deadline(new, expires)
            os.replace(new, path)
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise

    def _sweep(self) -> None:
        """Look at the next few files; remove what has expired."""
        now = time.time_ns()
        with suppress(OSError):  # what the caller wrote is written
            if not self._unseen:
                files = _files(self._folder / next(self._next_folder))
                if len(files) * len(FOLDERS) >= self._threshold:
                    self._unseen = files
            seen, self._unseen = self._unseen[: self._SWEEP], self._unseen[self._SWEEP :]
            if expired := [path for path in seen if _has_expired(path, now)]:
                self._remove_expired(expired[0].parent, expired)

    def _remove_expired(self, folder: Path, files: list[Path]) -> int:
        removed = 0
        if files:
            with self._locked(folder):
                now = time.time_ns()  # somebody may have written it anew
                for path in files:
                    if _has_expired(path, now):
                        with suppress(FileNotFoundError):
                            os.unlink(path)
                            removed += 1
        return removed


def _files(folder: Path) -> list[Path]:
    """The files of records in *folder*, and those that a crash left in the middle of a write.

    The latter have the time of their writing or the deadline that they were to get, so that they
    are removed as expired ones, too.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in names if len(name.removesuffix(NEW)) == NAME_LENGTH]


def _read(path: Path, now: int) -> Record | None:
    try:
        with open(path, "rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_mtime_ns - now
            data = file.read()
    except FileNotFoundError:
        return None
    return Record(data, digest(data), left / 1e9) if left > 0 else None


def _has_expired(path: Path, now: int) -> bool:
    """Whether there is no living record at *path*."""
    try:
        return os.stat(path).st_mtime_ns <= now
    except FileNotFoundError:
        return True


def _set_deadline(path: Path, expires: int) -> None:
    os.utime(path, ns=(time.time_ns(), expires))


def _nanoseconds(ttl: float) -> int:
    return math.ceil(min(ttl, LONGEST) * 1e9)


# -- locks

TAKEN: type[OSError]
"""What the operating system raises where another one has the lock, or the file."""

if sys.platform == "win32":
    TAKEN = PermissionError

    def _open_lock(folder: Path) -> int:
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    TAKEN = BlockingIOError

    def _open_lock(folder: Path) -> int:
        # The folder itself: a file could be removed while somebody has its lock.
        return os.open(folder, os.O_RDONLY)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


# A child gets the locks of its parent, and would keep them when that dies.
_locks: set[int] = set()


def _after_fork() -> None:
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
