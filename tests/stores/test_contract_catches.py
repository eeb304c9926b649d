"""The contract tests fail for a store that breaks the contract."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from quart_session.stores.base import ANY, Conflict, Expect, Record, Version
from quart_session.stores.memory import MemoryStore
from quart_session.testing import StoreContract, run_and_cancel


class ExtendsOnRead(MemoryStore):
    async def get(self, key: str) -> Record | None:
        await self.touch(key, 60)
        return await super().get(key)


class ComparesThenWrites(MemoryStore):
    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        record = await self.get(key)
        await checkpoint()
        if isinstance(expected, bytes) and (record is None or record.version != expected):
            return Conflict(record)
        return await super().set(key, data, ttl)


class TouchWrites(MemoryStore):
    async def touch(self, key: str, ttl: float) -> bool:
        record = await self.get(key)
        await self.set(key, b"" if record is None else record.data + b" ", ttl)
        return record is not None


class WritesInSpiteOfConflict(MemoryStore):
    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        answer = await super().set(key, data, ttl, expected)
        if isinstance(answer, Conflict):
            await super().set(key, data, ttl)
        return answer


class ReadsText(MemoryStore):
    async def get(self, key: str) -> Record | None:
        record = await super().get(key)
        return record and record._replace(data=record.data.decode(errors="replace").encode())


class SharesAConnection(MemoryStore):
    """Answers in order on one connection, and forgets that a cancelled call left one there."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: list[Record | None] = []

    async def get(self, key: str) -> Record | None:
        self.unread.append(await super().get(key))
        await checkpoint()
        return self.unread.pop(0)


CASES: list[tuple[type[MemoryStore], str, dict[str, object]]] = [
    (ExtendsOnRead, "a_read_never_extends_a_life", {}),
    (ComparesThenWrites, "one_of_many_creators_wins", {}),
    (ComparesThenWrites, "one_of_many_conditional_writers_wins", {}),
    (ComparesThenWrites, "a_counter_loses_no_update", {}),
    (ComparesThenWrites, "a_delete_and_a_conditional_write_leave_no_record_behind", {}),
    (TouchWrites, "touch_extends_a_life_and_keeps_the_version", {}),
    (TouchWrites, "touch_brings_nothing_back", {}),
    (WritesInSpiteOfConflict, "a_stale_version_conflicts_and_shows_the_record", {}),
    (WritesInSpiteOfConflict, "a_version_never_brings_an_expired_record_back", {}),
    (ReadsText, "bytes_come_back_exactly", {"data": bytes(range(256))}),
    (SharesAConnection, "a_call_cancelled_anywhere_harms_nobody", {"operation": "get"}),
    (SharesAConnection, "many_calls_cancelled_at_any_time_harm_nobody", {}),
]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("store", "test", "arguments"), CASES)
def test_a_broken_store_fails(
    store: type[MemoryStore], test: str, arguments: dict[str, object], backend: str
) -> None:
    check: Any = getattr(StoreContract(), f"test_{test}")
    if "operation" in arguments:
        arguments = arguments | {"anyio_backend_name": backend}
    with pytest.raises((AssertionError, ExceptionGroup)):
        anyio.run(partial(check, store=store(), key="key", **arguments), backend=backend)


@pytest.mark.parametrize(
    ("backend", "native"), [("asyncio", False), ("asyncio", True), ("trio", False)]
)
def test_every_await_is_cancelled_once(backend: str, native: bool) -> None:
    async def main() -> None:
        reached = []

        async def call() -> None:
            for n in range(3):
                reached.append(n)
                await checkpoint()
            reached.append(3)

        ends = []
        for at in range(100):
            reached.clear()
            ends.append((await run_and_cancel(call(), at, native=native), reached[-1]))
            if ends[-1][0]:
                break
        assert [end for end in ends[:-1] if end[0]] == []
        assert {last for _, last in ends[:-1]} == {0, 1, 2}
        assert ends[-1] == (True, 3)

    anyio.run(main, backend=backend)
