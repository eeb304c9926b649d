"""The stores that need no backend, beyond the contract."""

from __future__ import annotations

import pytest

from quart_session.stores.base import ABSENT, Conflict, Record, digest
from quart_session.stores.memory import MemoryStore
from quart_session.stores.null import NullStore

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestMemory:
    async def test_life_is_measured_by_the_clock_that_was_given(self) -> None:
        clock = Clock()
        store = MemoryStore(clock=clock)
        await store.set("key", b"data", 10)
        clock.now += 9.5
        record = await store.get("key")
        assert record is not None
        assert record.expires_in == 0.5
        clock.now += 0.5
        assert await store.get("key") is None

    async def test_writes_sweep_expired_records_away(self) -> None:
        clock = Clock()
        store = MemoryStore(clock=clock)
        for n in range(1000):
            await store.set(f"short {n}", b"", 10)
            await store.set(f"long {n}", b"", 100_000)
        clock.now += 11
        for n in range(10_000):
            await store.set(f"later {n}", b"", 10)
            clock.now += 1 / 10
        # There are 1100 living, and more than ten times as many were written.
        assert len(store._rows) < 2 * 1100 + 10
        assert await store.get("long 0") is not None
        assert await store.get("long 999") is not None

    async def test_purging_counts_what_it_removes(self) -> None:
        clock = Clock()
        store = MemoryStore(clock=clock)
        await store.set("1", b"", 10)
        await store.set("2", b"", 10)
        await store.set("3", b"", 30)
        clock.now += 20
        assert await store.purge_expired() == 2
        assert len(store._rows) == 1


class TestNull:
    async def test_a_write_succeeds_and_nothing_is_there(self) -> None:
        store = NullStore()
        assert await store.set("key", b"data", 60) == digest(b"data")
        assert await store.set("key", b"data", 60, ABSENT) == digest(b"data")
        assert await store.get("key") is None
        assert await store.touch("key", 60) is False
        assert await store.delete("key") is None

    async def test_a_version_finds_its_record_gone(self) -> None:
        assert await NullStore().set("key", b"data", 60, b"version") == Conflict(None)
        assert await NullStore().delete("key", b"version") is None


class TestRecord:
    def test_its_repr_does_not_show_the_data(self) -> None:
        conflict = Conflict(Record(b"private", digest(b"private"), 5.0))
        assert "private" not in repr(conflict)
        assert digest(b"private").decode() not in repr(conflict)
