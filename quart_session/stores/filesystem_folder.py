"""A folder of records, one file each: their names, their ends, and who may write there.

A file holds the plain data. Its name is a hash of the key, and its time of modification is the end
of its life, in nanoseconds of the wall clock as all times here.
"""

from __future__ import annotations

import math
import os
import random
import stat
import sys
import time
from contextlib import AbstractContextManager, suppress
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path

from quart_session.errors import StoreError
from quart_session.stores.base import Record, digest
from quart_session.stores.filesystem_locks import locked

FOLDERS = [f"{number:02x}" for number in range(256)]
"""The folders below, by the first digits of the names in them. Each is locked for itself."""

NEW = ".new"
NAME_LENGTH = 64

LONGEST = 200 * 365 * 86400
"""Seconds. File systems end in 2262 or later, and then a later date can become an early one."""

SWEEP = 4
"""Files that a write looks at. It adds one at most, so expiry keeps pace."""


class Folder:
    """Where the files lie.

    :param mode: of each file.
    :param threshold: while there are fewer files than about so many, nobody looks for expired ones.
    """

    def __init__(self, path: Path, mode: int, threshold: int) -> None:
        self.path = path
        self._mode = mode
        self._threshold = threshold
        # What the next writes look at. Not from the start: a process may live shorter than a round.
        self._unseen: list[Path] = []
        start = random.randrange(len(FOLDERS))
        self._next_folder = cycle(FOLDERS[start:] + FOLDERS[:start])

    def file(self, key: str) -> Path:
        """Where the record of *key* lies, if there is one."""
        name = sha256(key.encode(errors="surrogatepass")).hexdigest()
        return self.path / name[:2] / name

    def locked(self, folder: Path) -> AbstractContextManager[None]:
        """Keep all others from writing in *folder*, which is one of those below."""
        return locked(folder, self._make_below)

    def is_trustworthy(self) -> bool:
        """Whether the folder is there and nobody else can put a session into it.

        :raises StoreError: somebody can.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        if sys.platform != "win32":
            if status.st_mode & stat.S_IWOTH:
                raise StoreError(
                    f"session folder {str(self.path)!r}: everybody may write to it, and so make "
                    "sessions of their own; chmod 700 it, or name a folder inside of it"
                )
            if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
                raise StoreError(
                    f"session folder {str(self.path)!r}: it belongs to another user (uid "
                    f"{status.st_uid}), who could make sessions of his own; chown it to uid "
                    f"{os.geteuid()}"
                )
        return True

    def make(self) -> None:
        """Make the folder where it is missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._make(self.path)

    def _make_below(self, folder: Path) -> None:
        self.make()
        self._make(folder)

    def _make(self, folder: Path) -> None:
        with suppress(FileExistsError):
            # Who may read the files may pass through their folder.
            mode = 0o700 | self._mode | (self._mode & 0o444) >> 2
            os.mkdir(folder, mode)
            os.chmod(folder, mode)  # the umask may have taken rights away

    def put(self, file: Path, data: bytes, end: int) -> None:
        """Put *data* in the place of what is there, as a whole. The caller has the lock."""
        new = file.with_name(file.name + NEW)
        try:
            with open(new, "wb", opener=partial(os.open, mode=self._mode)) as opened:
                os.chmod(new, self._mode)  # the umask may have taken rights away
                opened.write(data)
            set_end(new, end)
            os.replace(new, file)
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise

    def sweep(self) -> None:
        """Look at the next few files; remove what has expired."""
        now = time.time_ns()
        with suppress(OSError):  # what the caller wrote is written
            if not self._unseen:
                files = _files(self.path / next(self._next_folder))
                if len(files) * len(FOLDERS) >= self._threshold:
                    self._unseen = files
            seen, self._unseen = self._unseen[:SWEEP], self._unseen[SWEEP:]
            if expired := [file for file in seen if has_expired(file, now)]:
                self._remove_expired(expired)

    def purge(self, name: str) -> int:
        """Remove what has expired in the folder *name*, one of ``FOLDERS``; return how many."""
        now = time.time_ns()
        expired = [file for file in _files(self.path / name) if has_expired(file, now)]
        return self._remove_expired(expired) if expired else 0

    def _remove_expired(self, files: list[Path]) -> int:
        removed = 0
        with self.locked(files[0].parent):
            now = time.time_ns()  # somebody may have written it anew
            for file in files:
                if has_expired(file, now):
                    with suppress(FileNotFoundError):
                        os.unlink(file)
                        removed += 1
        return removed


def read(file: Path, now: int) -> Record | None:
    """The living record in *file*."""
    try:
        with open(file, "rb", buffering=0) as opened:
            left = os.fstat(opened.fileno()).st_mtime_ns - now
            data = opened.read()
    except FileNotFoundError:
        return None
    return Record(data, digest(data), left / 1e9) if left > 0 else None


def has_expired(file: Path, now: int) -> bool:
    """Whether there is no living record in *file*."""
    try:
        return os.stat(file).st_mtime_ns <= now
    except FileNotFoundError:
        return True


def set_end(file: Path, end: int) -> None:
    """Let the life of *file* end then."""
    os.utime(file, ns=(time.time_ns(), end))


def end_of(ttl: float, now: int) -> int:
    """When a life of *ttl* seconds ends that begins now."""
    return now + math.ceil(min(ttl, LONGEST) * 1e9)


def _files(folder: Path) -> list[Path]:
    """The files of records in *folder*, and those that a crash left in the middle of a write.

    The latter have the time of their writing or the end that they were to get, so that they are
    removed as expired ones, too.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in names if len(name.removesuffix(NEW)) == NAME_LENGTH]
