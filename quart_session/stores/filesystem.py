"""Sessions in files, one each, shared by all threads and worker processes of a machine."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
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
from quart_session.stores.filesystem_folder import (
    FOLDERS,
    Folder,
    end_of,
    has_expired,
    read,
    set_end,
)
from quart_session.stores.filesystem_locks import TAKEN

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

T = TypeVar("T")

FOLDER = "sessions"

THREADS = 4
"""So many threads of one event loop work on files; more of them are no faster."""

GRACE = 0.05
"""Seconds that a thread has for the last attempt before the event loop stops waiting for it."""


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

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        mode: int = 0o600,
        threshold: int = 500,
        timeout: float = 1.0,
    ) -> None:
        self._folder = Folder(Path(folder), mode, threshold)
        self._timeout = timeout
        self._patience = Patience(timeout)
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar("quart_session_filesystem")
        self._trusted = False

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
        return self._folder.path

    async def open(self) -> None:
        await self._in_thread(self._folder.make)

    async def get(self, key: str) -> Record | None:
        file = self._folder.file(key)

        def get() -> Record | None:
            # Windows does not replace a file that somebody has open.
            with self._folder.locked(file.parent) if sys.platform == "win32" else nullcontext():
                return read(file, time.time_ns())

        return await self._in_thread(get)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        file = self._folder.file(key)

        def write() -> Version | Conflict:
            with self._folder.locked(file.parent):
                now = time.time_ns()
                if expected is not ANY:
                    record = read(file, now)
                    if (ABSENT if record is None else record.version) != expected:
                        return Conflict(record)
                self._folder.put(file, data, end_of(ttl, now))
            self._folder.sweep()
            return digest(data)

        return await self._in_thread(write)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        file = self._folder.file(key)

        def remove() -> Conflict | None:
            with self._folder.locked(file.parent):
                if expected is not ANY:
                    record = read(file, time.time_ns())
                    if record is not None and record.version != expected:
                        return Conflict(record)
                file.unlink(missing_ok=True)
            return None

        return await self._in_thread(remove)

    async def touch(self, key: str, ttl: float) -> bool:
        file = self._folder.file(key)

        def extend() -> bool:
            with self._folder.locked(file.parent):
                now = time.time_ns()
                if has_expired(file, now):
                    return False
                set_end(file, end_of(ttl, now))
                return True

        return await self._in_thread(extend)

    async def purge_expired(self) -> int:
        removed = 0
        for name in FOLDERS:
            removed += await self._in_thread(partial(self._folder.purge, name))
        return removed

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
            raise StoreError(f"session folder {str(self.folder)!r}: {reason}") from error

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
                    self._trusted = self._folder.is_trustworthy()
                result = call()
                self._patience.answered()
                return result
            except TAKEN as error:
                if time.monotonic() >= limit:
                    self._patience.timed_out()
                    reason = f"no turn within {self._timeout:g} s: {error.strerror}"
                    raise TimeoutError(error.errno, reason) from error
            time.sleep(random.uniform(0.0002, 0.002))
