"""A store gives the backend its time, no less under load and no more in an outage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from anyio.lowlevel import checkpoint
from clock import clock
from closing import Closer
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from tcp_proxy import Proxy
from wire import LOAD, SAVE, on

from quart_session.errors import StoreError
from quart_session.stores import sqlite_file
from quart_session.stores.base import ABSENT, Store, digest
from quart_session.stores.filesystem import THREADS, FilesystemStore
from quart_session.stores.memcached import MemcachedStore
from quart_session.stores.redis import RedisStore
from quart_session.stores.redis_batches import MOST
from quart_session.stores.redis_trio import RedisTrioStore
from quart_session.stores.sqlite import SQLiteStore
from quart_session.testing import gather

pytestmark = pytest.mark.anyio

TIMEOUT = 0.3
MARGIN = 0.7
"""What a busy machine may add in a test; an idle one adds a few milliseconds."""


both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


def store_of(url: str, anyio_backend_name: str = "asyncio") -> Store:
    if url.startswith("memcached"):
        return MemcachedStore(url, timeout=TIMEOUT)
    return (RedisTrioStore if anyio_backend_name == "trio" else RedisStore)(url, timeout=TIMEOUT)


@pytest.fixture
async def remote(proxy: Proxy, anyio_backend_name: str) -> AsyncIterator[Store]:
    """On a server behind the proxy."""
    store = store_of(proxy.url, anyio_backend_name)
    yield store
    proxy.become("pass")
    await store.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "sessions.sqlite3", timeout=TIMEOUT)
    yield store
    await store.close()


@pytest.fixture
def filesystem(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path / "sessions", timeout=TIMEOUT)


@pytest.fixture(params=["sqlite", "filesystem"])
def local(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


async def seconds_to_failure(call: Callable[[], Awaitable[object]]) -> float:
    started = clock()
    with pytest.raises(StoreError):
        await call()
    return clock() - started


@pytest.mark.parametrize(
    "kind", [RedisStore, RedisTrioStore, MemcachedStore, SQLiteStore, FilesystemStore]
)
def test_stores_watch_the_clock_themselves(kind: type[Store]) -> None:
    assert kind.timely


class TestLoad:
    async def test_who_waits_for_a_turn_blames_nobody(
        self, proxy: Proxy, key: str, closed_later: Closer
    ) -> None:
        redis = closed_later(RedisStore(f"{proxy.url}?max_connections=1", timeout=TIMEOUT))
        proxy.delay = TIMEOUT / 4
        await redis.set(key, b"data", 60)
        started = time.monotonic()
        await gather([partial(redis.get, key)] * 10 * MOST)
        assert time.monotonic() - started > 2 * TIMEOUT

    @both
    async def test_a_file_that_others_write_all_the_time_is_no_outage(
        self, sqlite: SQLiteStore, key: str
    ) -> None:
        await sqlite.set(key, b"data", 60)
        program = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
print("ready", flush=True)
while True:
    db.execute("BEGIN IMMEDIATE")
    time.sleep(0.003)
    db.execute("COMMIT")
    time.sleep(0.001)
"""
        command = [sys.executable, "-c", program, sqlite.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:  # noqa: ASYNC220
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            try:
                started = time.monotonic()
                while time.monotonic() < started + 3 * TIMEOUT:
                    await gather(partial(sqlite.set, f"{key}:{n}", b"data", 60) for n in range(30))
            finally:
                other.kill()

    @both
    async def test_a_queue_before_a_slow_disk_is_no_outage(
        self, filesystem: FilesystemStore
    ) -> None:
        started = time.monotonic()
        slow = partial(time.sleep, TIMEOUT / 10)
        await gather([partial(filesystem._in_thread, slow)] * 30 * THREADS)
        assert time.monotonic() - started > 2 * TIMEOUT

    @both
    async def test_a_busy_event_loop_is_no_outage(self, local: Store, key: str) -> None:
        await self.use_in_a_busy_event_loop(local, key)

    @on("redis", "memcached")
    async def test_a_busy_event_loop_is_no_outage_of_a_server(
        self, remote: Store, key: str
    ) -> None:
        await self.use_in_a_busy_event_loop(remote, key)

    async def use_in_a_busy_event_loop(self, store: Store, key: str) -> None:
        async def hog() -> None:
            for _ in range(3):
                await anyio.sleep(0.001)
                time.sleep(2 * TIMEOUT)  # noqa: ASYNC251 -- that is the test

        await store.set(key, b"data", 60)
        await gather([hog, *[partial(store.get, key)] * 64, *[partial(store.touch, key, 60)] * 20])

    @pytest.mark.parametrize("backend", ["redis", "memcached"])
    async def test_one_broken_connection_is_no_outage(
        self, remote: Store, proxy: Proxy, key: str
    ) -> None:
        """One command or batch waits in vain; those behind see that others are answered."""

        async def hang() -> None:
            await anyio.sleep(2 * TIMEOUT)

        await gather([partial(remote.get, key)] * 16)
        proxy.delay = TIMEOUT / 4
        proxy.lose_reply(LOAD[proxy.scheme], then=hang)
        failures = 0

        async def get() -> None:
            nonlocal failures
            try:
                await remote.get(key)
            except StoreError:
                failures += 1

        await gather([get] * 20 * MOST)
        assert 1 <= failures <= MOST


class TestOutage:
    @on("redis", "memcached")
    @pytest.mark.parametrize("mode", ["black hole", "half-open"])
    async def test_nobody_waits_for_several_timeouts(
        self, remote: Store, proxy: Proxy, key: str, mode
    ) -> None:
        await remote.set(key, b"data", 60)
        proxy.become(mode)
        waits: list[float] = []

        async def get() -> None:
            waits.append(await seconds_to_failure(partial(remote.get, key)))

        async def steadily() -> None:
            for _ in range(3):
                await get()

        await gather([steadily, *[get] * 64])
        print(f"{mode}: p100 {max(waits):.3f} s of {len(waits)} calls at {TIMEOUT} s")
        assert max(waits) < TIMEOUT + MARGIN
        proxy.become("pass")
        await gather([partial(remote.get, key)] * 100)

    @on("redis", "memcached")
    async def test_who_comes_while_a_silent_connection_is_closed_gets_another_one(
        self, remote: Store, proxy: Proxy, key: str
    ) -> None:
        await remote.set(key, b"data", 60)
        proxy.become("black hole")
        await seconds_to_failure(partial(remote.get, key))
        proxy.become("pass")

        async def get(turns: int) -> None:
            for _ in range(turns):
                await checkpoint()
            assert await remote.get(key) is not None

        await gather(partial(get, turns) for turns in range(50))

    @on("redis", "memcached")
    async def test_new_callers_do_not_pay_for_those_in_front(
        self, remote: Store, proxy: Proxy, key: str
    ) -> None:
        """In an outage callers keep coming, more than there are connections."""
        proxy.become("black hole")
        waits: list[float] = []

        async def get() -> None:
            waits.append(await seconds_to_failure(partial(remote.get, key)))

        async with anyio.create_task_group() as callers:
            for _ in range(100):
                callers.start_soon(get)
                await anyio.sleep(0.01)
        assert max(waits) < TIMEOUT + MARGIN

    @both
    async def test_writers_of_a_locked_file_fail_together(
        self, sqlite: SQLiteStore, key: str
    ) -> None:
        await sqlite.set(key, b"old", 60)
        waits: list[float] = []

        async def write() -> None:
            waits.append(await seconds_to_failure(partial(sqlite.set, key, b"new", 60)))

        with closing(sqlite3.connect(sqlite.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await gather([write] * 64)
        print(f"locked file: p100 {max(waits):.3f} s of {len(waits)} calls at {TIMEOUT} s")
        assert max(waits) < TIMEOUT + MARGIN
        assert await sqlite.set(key, b"new", 60) == digest(b"new")

    @pytest.mark.parametrize("operation", ["get", "set"])
    async def test_a_disk_that_hangs_when_the_file_is_opened_is_an_error_in_time(
        self, sqlite: SQLiteStore, key: str, monkeypatch: pytest.MonkeyPatch, operation: str
    ) -> None:
        await sqlite.set(key, b"data", 60)
        await sqlite.close()
        connect = sqlite_file._connect

        def hang(path: Path, schema: str) -> sqlite3.Connection:
            time.sleep(4 * TIMEOUT)
            return connect(path, schema)

        monkeypatch.setattr(sqlite_file, "_connect", hang)
        calls = {"get": partial(sqlite.get, key), "set": partial(sqlite.set, key, b"new", 60)}
        waits: list[float] = []

        async def fails() -> None:
            waits.append(await seconds_to_failure(calls[operation]))

        await gather([fails] * 10)
        assert max(waits) < TIMEOUT + MARGIN
        await anyio.sleep(4 * TIMEOUT)
        record = await sqlite.get(key)
        assert record is not None
        assert record.data == b"data"

    async def test_a_disk_that_hangs_in_all_threads_is_an_error_in_time(
        self, filesystem: FilesystemStore, key: str
    ) -> None:
        await filesystem.set(key, b"data", 60)
        waits: list[float] = []

        async def fails(call: Callable[[], Awaitable[object]]) -> None:
            waits.append(await seconds_to_failure(call))

        stuck = partial(filesystem._in_thread, partial(time.sleep, 4 * TIMEOUT))
        await gather(partial(fails, stuck) for _ in range(THREADS + 10))
        assert max(waits) < TIMEOUT + MARGIN
        await anyio.sleep(4 * TIMEOUT)
        assert await filesystem.get(key) is not None


class TestLostReply:
    """A write may have happened although its reply did not come."""

    @pytest.mark.parametrize("passing", [0, 2], ids=["no reply", "half a reply"])
    @on("redis", "memcached")
    async def test_a_write_is_repeated_and_knows_itself(
        self, remote: Store, proxy: Proxy, key: str, passing: int
    ) -> None:
        command = SAVE[proxy.scheme]
        await remote.set(key, b"warm", 60, b"version")  # the server knows the script
        proxy.lose_reply(command, passing)
        assert await remote.set(key, b"1", 60, ABSENT) == digest(b"1")
        proxy.lose_reply(command, passing)
        assert await remote.set(key, b"2", 60, digest(b"1")) == digest(b"2")
        assert proxy.replies_lost == 2

    async def test_a_client_of_the_application_does_not_repeat_it_unseen(
        self, proxy: Proxy, key: str, closed_later: Closer
    ) -> None:
        retry = Retry(ConstantBackoff(0.01), 5)
        async with Redis.from_url(proxy.url, retry=retry, retry_on_timeout=True) as client:
            store = closed_later(RedisStore(client=client))
            await store.set(key, b"warm", 60, b"version")
            proxy.lose_reply(SAVE[proxy.scheme])
            assert await store.set(key, b"1", 60, ABSENT) == digest(b"1")
            assert proxy.replies_lost == 1

    @on("redis", "memcached")
    async def test_a_write_that_another_one_followed_is_a_conflict(
        self, remote: Store, proxy: Proxy, key: str
    ) -> None:
        await remote.set(key, b"1", 60)

        async def follow() -> None:
            other = store_of(f"{proxy.scheme}://127.0.0.1:{proxy.target}")
            try:
                await other.set(key, b"3", 60)
            finally:
                await other.close()

        await remote.set(key, b"warm", 60, b"version")
        proxy.lose_reply(SAVE[proxy.scheme], then=follow)
        conflict = await remote.set(key, b"2", 60, digest(b"1"))
        assert not isinstance(conflict, bytes)
        assert conflict.record is not None
        assert conflict.record.data == b"3"

    @on("redis", "memcached")
    async def test_only_a_repeated_write_knows_itself(self, remote: Store, key: str) -> None:
        """Two who write the same are two: the second is told of the first."""
        assert await remote.set(key, b"same", 60, ABSENT) == digest(b"same")
        assert not isinstance(await remote.set(key, b"same", 60, ABSENT), bytes)
