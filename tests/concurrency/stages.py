"""The stores on which programs of concurrent requests are run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from backends import make_store
from rulings import Stage

from quart_session.remains import MARKER
from quart_session.stores.base import ANY, Conflict, Expect, Store
from quart_session.stores.memory import MemoryStore


class Clock:
    """Time that stands still until somebody lets it go by."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def memory() -> Store:
    return MemoryStore(clock=Clock())


def pass_time(store: Store, seconds: float) -> None:
    assert isinstance(store, MemoryStore)
    assert isinstance(store._clock, Clock)
    store._clock.now += seconds


def memory_stage(one_process: bool, around: Callable[[Store], Store] | None = None, **options):
    return Stage(memory, one_process=one_process, around=around, pass_time=pass_time, **options)


@asynccontextmanager
async def shared_stage(one_process: bool, settings: dict[str, Any]) -> AsyncIterator[Stage]:
    """A stage on a real backend, where time goes by itself."""
    store = make_store(settings, timeout=30)
    try:
        yield Stage(lambda: store, one_process=one_process)
    finally:
        await store.close()


class Around(Store):
    """Between the sessions and the store."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.timely = inner.timely  # type: ignore[misc]

    async def get(self, key):
        return await self.inner.get(key)

    async def set(self, key, data, ttl, expected=ANY):
        return await self.inner.set(key, data, ttl, expected)

    async def delete(self, key, expected=ANY):
        return await self.inner.delete(key, expected)

    async def touch(self, key, ttl):
        return await self.inner.touch(key, ttl)

    async def close(self):
        await self.inner.close()


class Remembering(Around):
    """Knows every key that was ever written."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.keys: set[str] = set()

    async def set(self, key, data, ttl, expected=ANY):
        self.keys.add(key)
        return await super().set(key, data, ttl, expected)


class Unconditional(Around):
    """Writes over whatever is there, and removes records without a trace, as version 3 did."""

    async def set(self, key, data, ttl, expected=ANY):
        if data == MARKER:
            await self.inner.delete(key)
            return b""
        return await self.inner.set(key, data, ttl, ANY)

    async def delete(self, key, expected=ANY):
        return await self.inner.delete(key, ANY)


class WithoutMarkers(Around):
    """Conditional writes, but nothing is left of an ended session."""

    async def set(self, key, data, ttl, expected=ANY):
        if data != MARKER:
            return await self.inner.set(key, data, ttl, expected)
        if not isinstance(expected, Expect) and await self.inner.get(key) is None:
            return Conflict(None)
        result = await self.inner.delete(key, expected)
        return b"" if result is None else result


class WithoutRetries(Around):
    """Says that a conflicting write succeeded: compare and forget, instead of merge."""

    async def set(self, key, data, ttl, expected=ANY):
        result = await self.inner.set(key, data, ttl, expected)
        return b"" if isinstance(result, Conflict) else result


class Extending(Around):
    """Gives every record more life than it was meant to have."""

    async def set(self, key, data, ttl, expected=ANY):
        return await self.inner.set(key, data, ttl * 3, expected)

    async def touch(self, key, ttl):
        return await self.inner.touch(key, ttl * 3)
