"""Sessions in the memory of this process, for tests and development."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

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


class _Row(NamedTuple):
    data: bytes
    version: Version
    deadline: float


class MemoryStore(Store):
    """Keeps records in a dict. They end with the process and no other process sees them.

    :param clock: seconds that only move forward; a test passes its own to let time go by.

    .. versionadded:: 4.0
    """

    trio = True
    timely = True

    # A write adds one row at most and looks at two, so the expired never long outnumber the living.
    _SWEEP = 2

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Event loops may run in several threads. Nothing awaits while it holds the lock.
        self._lock = Lock()
        self._rows: OrderedDict[str, _Row] = OrderedDict()

    async def get(self, key: str) -> Record | None:
        with self._lock:
            return self._live(key)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        with self._lock:
            if expected is not ANY:
                record = self._live(key)
                if (ABSENT if record is None else record.version) != expected:
                    return Conflict(record)
            self._sweep()
            version = digest(data)
            self._rows[key] = _Row(data, version, self._clock() + ttl)
            return version

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        with self._lock:
            record = self._live(key)
            if record is not None and expected not in (ANY, record.version):
                return Conflict(record)
            self._rows.pop(key, None)
            return None

    async def touch(self, key: str, ttl: float) -> bool:
        with self._lock:
            if self._live(key) is None:
                return False
            self._rows[key] = self._rows[key]._replace(deadline=self._clock() + ttl)
            return True

    async def purge_expired(self) -> int:
        with self._lock:
            now = self._clock()
            expired = [key for key, row in self._rows.items() if row.deadline <= now]
            for key in expired:
                del self._rows[key]
            return len(expired)

    def _live(self, key: str) -> Record | None:
        row = self._rows.get(key)
        if row is None:
            return None
        left = row.deadline - self._clock()
        return Record(row.data, row.version, left) if left > 0 else None

    def _sweep(self) -> None:
        """Look at the rows in front: drop what has expired, send what lives to the back."""
        now = self._clock()
        for _ in range(min(self._SWEEP, len(self._rows))):
            key = next(iter(self._rows))
            if self._rows[key].deadline <= now:
                del self._rows[key]
            else:
                self._rows.move_to_end(key)
