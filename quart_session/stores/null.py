"""A store that keeps nothing."""

from __future__ import annotations

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


class NullStore(Store):
    """Behaves as if every record had gone the moment after it was written.

    For an application that must run without sessions, and for measuring what a backend costs.

    .. versionadded:: 4.0
    """

    trio = True
    timely = True
    evicts = True

    async def get(self, key: str) -> Record | None:
        return None

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        return digest(data) if expected in (ANY, ABSENT) else Conflict(None)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        return None

    async def touch(self, key: str, ttl: float) -> bool:
        return False
