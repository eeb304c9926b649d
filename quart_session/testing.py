"""The contract of a store as tests, for this package's stores and for anybody's own.

A store is proved by a subclass with one fixture::

    import pytest
    from quart_session.testing import StoreContract

    class TestMyStore(StoreContract):
        backends = ("asyncio", "trio")

        @pytest.fixture
        def store(self):
            return MyStore("my://localhost")

The tests need pytest and the pytest plugin that comes with anyio; pytest-asyncio beside it has to
be in its strict mode. They use keys of their own, so the backend need not be empty, and they close
the store. ``docs/stores-of-your-own.md`` shows a whole store.
"""

from __future__ import annotations

import asyncio
import math
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import anyio
import pytest

from quart_session.stores.base import ABSENT, ANY, Conflict, Record, Store, Version

__all__ = ["StoreContract", "run_and_cancel"]

T = TypeVar("T")


@pytest.mark.anyio
class StoreContract:
    """Subclass it in a test module, with a name that pytest collects, and give it a store.

    The fixture ``store`` is a plain function that returns a new :class:`Store`. It may use other
    fixtures; it must not close the store.

    .. versionadded:: 4.0
    """

    backends: ClassVar[tuple[str, ...]] = ("asyncio",)
    """Where the tests run; a store with ``trio = True`` names ``"trio"``, too."""

    resolution: ClassVar[float] = 0.001
    """Seconds to which the store may round a lifetime up."""

    largest: ClassVar[int] = 1_000_000
    """Bytes of data that the store must take."""

    @pytest.fixture
    def store(self) -> Store:
        """The store under test. A subclass overrides this fixture."""
        raise NotImplementedError("define a fixture named store")

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "anyio_backend" in metafunc.fixturenames:
            metafunc.parametrize("anyio_backend", cls.backends, scope="module")

    @pytest.fixture(autouse=True)
    async def _closed_afterwards(self, anyio_backend: object, store: Store) -> AsyncIterator[None]:
        yield
        await store.close()

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody has used."""
        return f"contract:{uuid4().hex}"

    short: ClassVar[float] = 0.15
    """A life, in seconds, whose end a test can wait for."""

    async def outlive(self, ttl: float) -> None:
        """Wait until a record that was given *ttl* seconds has expired."""
        await anyio.sleep(ttl + self.resolution + 0.05)

    # -- reading and writing

    async def test_an_absent_key_is_none(self, store: Store, key: str) -> None:
        assert await store.get(key) is None

    async def test_what_is_set_is_read(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"data", 60))
        record = found(await store.get(key))
        assert (record.data, record.version) == (b"data", version)

    async def test_a_write_replaces_the_record(self, store: Store, key: str) -> None:
        first = written(await store.set(key, b"first", 60))
        second = written(await store.set(key, b"second", 60))
        assert first != second
        assert found(await store.get(key)).data == b"second"

    async def test_the_version_of_an_unchanged_record_stays(self, store: Store, key: str) -> None:
        await store.set(key, b"data", 60)
        assert found(await store.get(key)).version == found(await store.get(key)).version

    async def test_keys_are_independent(self, store: Store, key: str) -> None:
        await store.set(key + ":1", b"1", 60)
        await store.set(key + ":2", b"2", 60)
        await store.delete(key + ":1")
        assert await store.get(key + ":1") is None
        assert found(await store.get(key + ":2")).data == b"2"

    @pytest.mark.parametrize(
        "data",
        [bytes(range(256)), b"", b"\0", b"\r\n", b"\xff\xfe", "žluťoučký 🐎".encode()],
        ids=["every byte", "nothing", "a zero", "a line end", "no UTF-8", "UTF-8"],
    )
    async def test_bytes_come_back_exactly(self, store: Store, key: str, data: bytes) -> None:
        version = written(await store.set(key, data, 60))
        assert found(await store.get(key)).data == data
        version = written(await store.set(key, data + b"!", 60, version))
        conflict = await store.set(key, b"other", 60, ABSENT)
        assert isinstance(conflict, Conflict)
        assert found(conflict.record).data == data + b"!"
        assert await store.delete(key, version) is None

    async def test_large_data_comes_back_exactly(self, store: Store, key: str) -> None:
        data = bytes(range(251)) * (self.largest // 251)
        version = written(await store.set(key, data, 60))
        assert found(await store.get(key)).data == data
        written(await store.set(key, data[::-1], 60, version))
        assert found(await store.get(key)).data == data[::-1]

    @pytest.mark.parametrize(
        "tail",
        ["", " ", "a b", "\r\n", "\t", "{tag}", "*?[a]", "'\";--", "%s", "../x", "ž🐎", "k" * 300],
        ids=repr,
    )
    async def test_any_text_is_a_key(self, store: Store, key: str, tail: str) -> None:
        await store.set(key, b"plain", 60)
        await store.set(f"{key}:{tail}", b"odd", 60)
        assert found(await store.get(f"{key}:{tail}")).data == b"odd"
        assert found(await store.get(key)).data == b"plain"
        assert await store.touch(f"{key}:{tail}", 60)
        assert await store.delete(f"{key}:{tail}") is None
        assert await store.get(f"{key}:{tail}") is None

    # -- conditional writes

    async def test_absent_writes_where_nothing_is(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"new", 60, ABSENT))
        assert found(await store.get(key))[:2] == (b"new", version)

    async def test_absent_conflicts_with_what_is_there(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"old", 60))
        conflict = await store.set(key, b"new", 60, ABSENT)
        assert isinstance(conflict, Conflict)
        assert found(conflict.record)[:2] == (b"old", version)
        assert found(await store.get(key)).data == b"old"

    async def test_a_version_writes_over_the_same_version(self, store: Store, key: str) -> None:
        await store.set(key, b"1", 60)
        version = found(await store.get(key)).version
        version = written(await store.set(key, b"2", 60, version))
        written(await store.set(key, b"3", 60, version))
        assert found(await store.get(key)).data == b"3"

    async def test_a_stale_version_conflicts_and_shows_the_record(
        self, store: Store, key: str
    ) -> None:
        stale = written(await store.set(key, b"1", 60))
        fresh = written(await store.set(key, b"2", 60))
        conflict = await store.set(key, b"3", 60, stale)
        assert isinstance(conflict, Conflict)
        record = found(conflict.record)
        assert record[:2] == (b"2", fresh)
        self.check_life(record, 60)
        assert found(await store.get(key)).data == b"2"
        written(await store.set(key, b"3", 60, record.version))

    async def test_a_version_never_brings_a_deleted_record_back(
        self, store: Store, key: str
    ) -> None:
        version = written(await store.set(key, b"1", 60))
        await store.delete(key)
        assert await store.set(key, b"2", 60, version) == Conflict(None)
        assert await store.get(key) is None

    async def test_a_version_never_brings_an_expired_record_back(
        self, store: Store, key: str
    ) -> None:
        version = written(await store.set(key, b"1", self.short))
        await self.outlive(self.short)
        assert await store.set(key, b"2", 60, version) == Conflict(None)
        assert await store.get(key) is None

    async def test_absent_writes_over_an_expired_record(self, store: Store, key: str) -> None:
        await store.set(key, b"1", self.short)
        await self.outlive(self.short)
        written(await store.set(key, b"2", 60, ABSENT))
        assert found(await store.get(key)).data == b"2"

    # -- deleting

    async def test_delete_removes(self, store: Store, key: str) -> None:
        await store.set(key, b"data", 60)
        assert await store.delete(key) is None
        assert await store.get(key) is None

    async def test_deleting_nothing_succeeds(self, store: Store, key: str) -> None:
        assert await store.delete(key) is None
        version = written(await store.set(key, b"data", 60))
        await store.delete(key)
        assert await store.delete(key, version) is None

    async def test_a_version_deletes_the_same_version(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"data", 60))
        assert await store.delete(key, version) is None
        assert await store.get(key) is None

    async def test_a_stale_version_deletes_nothing(self, store: Store, key: str) -> None:
        stale = written(await store.set(key, b"1", 60))
        fresh = written(await store.set(key, b"2", 60))
        conflict = await store.delete(key, stale)
        assert isinstance(conflict, Conflict)
        assert found(conflict.record)[:2] == (b"2", fresh)
        assert found(await store.get(key)).data == b"2"

    async def test_deleting_an_expired_record_succeeds(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"1", self.short))
        await self.outlive(self.short)
        assert await store.delete(key, version + b"x") is None

    # -- lifetimes

    def check_life(self, record: Record, ttl: float) -> None:
        if record.expires_in is not None:
            assert ttl - 5 < record.expires_in <= ttl + self.resolution

    async def test_a_record_expires(self, store: Store, key: str) -> None:
        await store.set(key, b"data", self.short)
        await self.outlive(self.short)
        assert await store.get(key) is None

    async def test_a_record_lives_as_long_as_it_was_given(self, store: Store, key: str) -> None:
        await store.set(key, b"data", 2.5)
        await anyio.sleep(1.1)
        assert found(await store.get(key)).data == b"data"

    @pytest.mark.parametrize("ttl", [0.4, 1, 30 * 86400, 30 * 86400 + 1, 100 * 365 * 86400])
    async def test_any_lifetime_is_kept(self, store: Store, key: str, ttl: float) -> None:
        await store.set(key, b"data", ttl)
        self.check_life(found(await store.get(key)), max(ttl, self.resolution))
        assert await store.touch(key, ttl)
        self.check_life(found(await store.get(key)), max(ttl, self.resolution))

    @pytest.mark.parametrize("ttl", [1e-9, 1e300, math.inf], ids=repr)
    async def test_extreme_lifetimes_are_no_error(self, store: Store, key: str, ttl: float) -> None:
        written(await store.set(key, b"1", ttl, ABSENT))
        await store.touch(key, ttl)
        record = await store.get(key)
        assert ttl < 1 or found(record).data == b"1"

    async def test_a_read_never_extends_a_life(self, store: Store, key: str) -> None:
        ttl = self.short * 3
        await store.set(key, b"data", ttl)
        with anyio.move_on_after(ttl + self.resolution + 0.05):
            while True:
                await store.get(key)
                await anyio.sleep(0.02)
        assert await store.get(key) is None

    async def test_a_write_gives_a_new_life(self, store: Store, key: str) -> None:
        await store.set(key, b"1", self.short)
        await store.set(key, b"2", 60)
        await self.outlive(self.short)
        assert found(await store.get(key)).data == b"2"

    async def test_touch_extends_a_life_and_keeps_the_version(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"data", self.short * 3))
        assert await store.touch(key, 60) is True
        await self.outlive(self.short * 3)
        record = found(await store.get(key))
        assert record[:2] == (b"data", version)
        self.check_life(record, 60)
        written(await store.set(key, b"new", 60, version))

    async def test_touch_shortens_a_life(self, store: Store, key: str) -> None:
        await store.set(key, b"data", 60)
        assert await store.touch(key, self.short) is True
        await self.outlive(self.short)
        assert await store.get(key) is None

    async def test_touch_brings_nothing_back(self, store: Store, key: str) -> None:
        assert await store.touch(key, 60) is False
        await store.set(key, b"data", self.short)
        await self.outlive(self.short)
        assert await store.touch(key, 60) is False
        assert await store.get(key) is None

    async def test_purging_leaves_the_living(self, store: Store, key: str) -> None:
        await store.set(key + ":dead", b"1", self.short)
        await store.set(key, b"2", 60)
        await self.outlive(self.short)
        assert await store.purge_expired() >= 0
        assert await store.purge_expired() == 0
        assert found(await store.get(key)).data == b"2"
        assert await store.get(key + ":dead") is None

    # -- side by side

    async def test_one_of_many_creators_wins(self, store: Store, key: str) -> None:
        answers = await gather(partial(store.set, key, b"%d" % n, 60, ABSENT) for n in range(40))
        await self.check_one_won(store, key, answers)

    async def test_one_of_many_conditional_writers_wins(self, store: Store, key: str) -> None:
        version = written(await store.set(key, b"old", 60))
        answers = await gather(partial(store.set, key, b"%d" % n, 60, version) for n in range(40))
        await self.check_one_won(store, key, answers)

    async def check_one_won(
        self, store: Store, key: str, answers: list[Version | Conflict]
    ) -> None:
        winners = [n for n, answer in enumerate(answers) if not isinstance(answer, Conflict)]
        assert len(winners) == 1
        record = found(await store.get(key))
        assert record[:2] == (b"%d" % winners[0], answers[winners[0]])

    async def test_a_counter_loses_no_update(self, store: Store, key: str) -> None:
        await store.set(key, b"0", 60)

        async def count() -> None:
            for _ in range(5):
                await increment(store, key)

        await gather(count for _ in range(10))
        assert found(await store.get(key)).data == b"50"

    async def test_a_delete_and_a_conditional_write_leave_no_record_behind(
        self, store: Store, key: str
    ) -> None:
        for n in range(10):
            version = written(await store.set(key, b"1", 60))
            calls = [partial(store.delete, key), partial(store.set, key, b"2", 60, version)]
            await gather(calls[:: 1 if n % 2 else -1])
            assert await store.get(key) is None

    # -- cancellation

    @pytest.mark.parametrize("operation", ["get", "set", "create", "replace", "delete", "touch"])
    async def test_a_call_cancelled_anywhere_harms_nobody(
        self, store: Store, key: str, operation: str, anyio_backend_name: str
    ) -> None:
        possible: dict[str, tuple[bytes | None, ...]] = {
            "get": (b"old",),
            "set": (b"old", b"new"),
            "create": (None, b"new"),
            "replace": (b"old", b"new"),
            "delete": (b"old", None),
            "touch": (b"old",),
        }
        # With a client at work first, then with one that has to be made.
        ways = [(fresh, False) for fresh in (False, True)]
        if anyio_backend_name == "asyncio":
            ways += [(fresh, True) for fresh in (False, True)]
        for fresh, native in ways:
            at = 0
            finished = False
            while not finished:
                await store.delete(key)
                old = None if operation == "create" else written(await store.set(key, b"old", 60))
                calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                    "get": partial(store.get, key),
                    "set": partial(store.set, key, b"new", 60),
                    "create": partial(store.set, key, b"new", 60, ABSENT),
                    "replace": partial(store.set, key, b"new", 60, old or ABSENT),
                    "delete": partial(store.delete, key, old or ANY),
                    "touch": partial(store.touch, key, 60),
                }
                if fresh:
                    await store.close()
                finished = await run_and_cancel(calls[operation](), at, native=native)
                await self.check_works(store, key + ":next")
                record = await store.get(key)
                left = None if record is None else record.data
                assert left in possible[operation]
                at += 1

    async def check_works(self, store: Store, key: str) -> None:
        """The client answers each of the next hundred calls, and answers that call."""
        for n in range(25):
            data = b"%d" % n
            version = written(await store.set(f"{key}:{n}", data, 60))
            assert found(await store.get(f"{key}:{n}"))[:2] == (data, version)
            assert await store.touch(f"{key}:{n}", 60) is True
            assert await store.delete(f"{key}:{n}", version) is None

    async def test_many_calls_cancelled_at_any_time_harm_nobody(
        self, store: Store, key: str
    ) -> None:
        async def cancelled(n: int) -> None:
            with anyio.move_on_after(n * 0.0001):
                data = b"%d" % (n % 7)
                await store.set(f"{key}:{n % 7}", data, 60)
                assert found(await store.get(f"{key}:{n % 7}")).data == data

        for _ in range(3):
            await gather(partial(cancelled, n) for n in range(40))
        for n in range(7):
            record = await store.get(f"{key}:{n}")
            assert record is None or record.data == b"%d" % n
        await self.check_works(store, key)

    # -- opening and closing

    async def test_open_and_close_may_be_repeated(self, store: Store, key: str) -> None:
        await store.close()
        await store.open()
        await store.open()
        await store.set(key, b"data", 60)
        await store.close()
        await store.close()

    async def test_a_closed_store_opens_itself_again(self, store: Store, key: str) -> None:
        await store.set(key, b"data", 60)
        await store.close()
        assert found(await store.get(key)).data == b"data"

    def test_event_loops_one_after_another(
        self, store: Store, key: str, anyio_backend_name: str
    ) -> None:
        async def use(n: int) -> None:
            record = await store.get(key)
            assert n == 0 or found(record).data == b"%d" % (n - 1)
            await store.set(key, b"%d" % n, 60)
            await store.close()

        for n in range(3):
            in_thread(partial(anyio.run, use, n, backend=anyio_backend_name))

    def test_event_loops_side_by_side(
        self, store: Store, key: str, anyio_backend_name: str
    ) -> None:
        async def use() -> None:
            for _ in range(5):
                await increment(store, key)
            everyone_done.wait()  # a close must not disturb the others
            await store.close()

        async def start() -> None:
            await store.set(key, b"0", 60)
            await store.close()

        in_thread(partial(anyio.run, start, backend=anyio_backend_name))
        everyone_done = threading.Barrier(3, timeout=30)
        in_thread(*[partial(anyio.run, use, backend=anyio_backend_name)] * 3)

        async def check() -> None:
            assert found(await store.get(key)).data == b"15"
            await store.close()

        in_thread(partial(anyio.run, check, backend=anyio_backend_name))

    def test_it_says_where_it_runs(self, store: Store) -> None:
        assert store.trio is ("trio" in self.backends)


def found(record: Record | None) -> Record:
    """Return *record*, which must be there."""
    assert record is not None, "there is no record"
    return record


def written(answer: Version | Conflict) -> Version:
    """Return the version that a write gave, which must have found what it expected."""
    assert not isinstance(answer, Conflict), "the write met a conflict"
    return answer


async def increment(store: Store, key: str) -> None:
    """Add one to the number under *key*, by as many conditional writes as it takes."""
    record = found(await store.get(key))
    while True:
        answer = await store.set(key, b"%d" % (int(record.data) + 1), 60, record.version)
        if not isinstance(answer, Conflict):
            return
        record = found(answer.record)


async def gather(calls: Any) -> list[Any]:
    """Call all of *calls* side by side; return their results in order."""
    calls = list(calls)
    results: list[Any] = [None] * len(calls)

    async def one(n: int, call: Callable[[], Awaitable[Any]]) -> None:
        results[n] = await call()

    async with anyio.create_task_group() as tasks:
        for n, call in enumerate(calls):
            tasks.start_soon(one, n, call)
    return results


def in_thread(*calls: Callable[[], object]) -> None:
    """Run *calls* in a thread each, side by side; raise the first error."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


async def run_and_cancel(call: Coroutine[Any, Any, T], at: int, *, native: bool = False) -> bool:
    """Run *call* and cancel it at its await number *at*, counted from 0.

    Returns whether it ended before it came to that await. Run it with 0, 1, 2 … until it does, and
    every place has been cancelled where the call can be. Works under asyncio and Trio.

    :param native: under asyncio, cancel the task once, as a server does whose client has gone. A
        cancel scope, used otherwise, cancels again and again until the call is left.

    .. versionadded:: 4.0
    """
    if not native:
        with anyio.CancelScope() as scope:
            await _stepwise(call, at, scope.cancel)
        return not scope.cancel_called
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        await _stepwise(call, at, task.cancel)
    except asyncio.CancelledError:
        if task.cancelling() != before + 1:
            raise
    cancelled = task.cancelling() > before
    if cancelled:
        task.uncancel()
    return not cancelled


@types.coroutine
def _stepwise(
    call: Coroutine[Any, Any, T], at: int, cancel: Callable[[], object]
) -> Generator[Any, Any, T]:
    # Passes on everything that the event loop and the call say to each other.
    step: Callable[[], Any] = partial(call.send, None)
    count = 0
    while True:
        try:
            message = step()
        except StopIteration as end:
            result: T = end.value
            return result
        if count == at:
            cancel()
        count += 1
        try:
            answer = yield message
        except BaseException as error:
            step = partial(call.throw, error)
        else:
            step = partial(call.send, answer)
