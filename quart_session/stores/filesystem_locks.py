"""Locks of folders, between threads and processes. Who dies loses his."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TAKEN: type[OSError]
"""What the operating system raises where another one has the lock, or the file."""

if sys.platform == "win32":
    TAKEN = PermissionError

    def _open(folder: Path) -> int:
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    TAKEN = BlockingIOError

    def _open(folder: Path) -> int:
        # The folder itself: a file could be removed while somebody has its lock.
        return os.open(folder, os.O_RDONLY)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def locked(folder: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Keep all others, threads and processes, from writing in *folder*.

    :param make: makes it where it is missing.
    :raises TAKEN: somebody else has the lock.
    """
    try:
        descriptor = _open(folder)
    except FileNotFoundError:
        make(folder)
        descriptor = _open(folder)
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


# A child gets the locks of its parent, and would keep them when that dies.
_locks: set[int] = set()


def _after_fork() -> None:
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
