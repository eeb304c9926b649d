"""MongoDB behind a network that fails, frozen, killed and started again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from clock import clock
from mongodb_server import MongoDBServer
from mongodb_server import mongodb_server as run_mongodb_server
from tcp_proxy import Proxy

from quart_session.errors import StoreError
from quart_session.stores.base import ABSENT, Conflict, digest
from quart_session.stores.mongodb import MongoDBStore
from quart_session.testing import found, gather

pytestmark = [
    pytest.mark.anyio,
    # pymongo leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]

TIMEOUT = 0.5
MARGIN = 0.8
"""What a busy machine may add in a test."""


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoDBServer]:
    """A server that a test may kill; it keeps on disk whatever it confirmed."""
    with run_mongodb_server(tmp_path, str(tmp_path / "data.db")) as server:
        yield server


@pytest.fixture
async def proxy(mongodb_server: MongoDBServer) -> AsyncIterator[Proxy]:
    async with Proxy(mongodb_server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[MongoDBStore]:
    store = MongoDBStore(f"mongodb://127.0.0.1:{proxy.port}/shop", timeout=TIMEOUT)
    yield store
    proxy.become("pass")
    await store.close()


@pytest.fixture
async def patient(proxy: Proxy) -> AsyncIterator[MongoDBStore]:
    """With time for a second attempt: pymongo looks at a server twice a second at most."""
    store = MongoDBStore(f"mongodb://127.0.0.1:{proxy.port}/shop", timeout=6 * TIMEOUT)
    yield store
    await store.close()


async def fails_in_time(store: MongoDBStore, key: str, callers: int = 40) -> None:
    waits: list[float] = []

    async def call(n: int) -> None:
        started = clock()
        with pytest.raises(StoreError) as error:
            await (store.get(key) if n % 2 else store.set(key, b"lost", 60, digest(b"old")))
        assert key not in str(error.value)
        waits.append(clock() - started)

    await gather(partial(call, n) for n in range(callers))
    print(f"p100 {max(waits):.3f} s of {len(waits)} calls at {TIMEOUT} s")
    assert max(waits) < TIMEOUT + MARGIN


async def works_again(store: MongoDBStore, key: str, within: float = 2) -> None:
    """pymongo looks for a server that was away every half second."""
    with anyio.fail_after(within):
        while True:
            try:
                version = found(await store.get(key)).version
                answer = await store.set(key, b"again", 60, version)
            except StoreError:
                await anyio.sleep(0.05)
                continue
            # A server that was frozen may find a write only now, between the two.
            if not isinstance(answer, Conflict):
                break
    assert found(await store.get(key)).version == answer


@pytest.mark.parametrize("mode", ["black hole", "half-open"])
async def test_a_network_that_swallows_everything(
    store: MongoDBStore, proxy: Proxy, key: str, mode
) -> None:
    await store.set(key, b"old", 60)
    proxy.become(mode)
    await fails_in_time(store, key)
    proxy.become("pass")
    await works_again(store, key)


async def test_nobody_listens(store: MongoDBStore, proxy: Proxy, key: str) -> None:
    await store.set(key, b"old", 60)
    await proxy.refuse()
    await fails_in_time(store, key)
    await proxy.accept()
    await works_again(store, key)


async def test_connections_that_broke_are_no_outage(
    patient: MongoDBStore, proxy: Proxy, key: str
) -> None:
    await patient.set(key, b"old", 60)
    proxy.reset()
    assert found(await patient.get(key)).data == b"old"
    proxy.reset()
    assert await patient.set(key, b"new", 60, digest(b"old")) == digest(b"new")


async def test_a_write_whose_answer_got_lost_knows_itself(
    patient: MongoDBStore, proxy: Proxy, key: str
) -> None:
    await patient.get(key)
    proxy.lose_reply(key.encode())
    assert await patient.set(key, b"1", 60, ABSENT) == digest(b"1")
    proxy.lose_reply(key.encode())
    assert await patient.set(key, b"2", 60, digest(b"1")) == digest(b"2")
    assert proxy.replies_lost == 2


async def test_a_write_that_another_one_followed_is_a_conflict(
    patient: MongoDBStore, proxy: Proxy, mongodb_server: MongoDBServer, key: str
) -> None:
    await patient.set(key, b"1", 60)

    async def follow() -> None:
        other = MongoDBStore(mongodb_server.uri)
        await other.set(key, b"3", 60)
        await other.close()

    proxy.lose_reply(key.encode(), then=follow)
    conflict = await patient.set(key, b"2", 60, digest(b"1"))
    assert isinstance(conflict, Conflict)
    assert found(conflict.record).data == b"3"


async def test_a_slow_server_with_a_queue_before_it_is_no_outage(
    store: MongoDBStore, proxy: Proxy, key: str
) -> None:
    await store.set(key, b"data", 60)
    proxy.delay = TIMEOUT / 5
    started = time.monotonic()
    await gather([partial(store.get, key)] * 200)
    assert time.monotonic() - started > 1.5 * TIMEOUT
    proxy.delay = 0


async def test_a_busy_event_loop_is_no_outage(store: MongoDBStore, proxy: Proxy, key: str) -> None:
    await store.set(key, b"data", 60)

    async def work() -> None:
        await anyio.sleep(TIMEOUT / 10)
        time.sleep(1.5 * TIMEOUT)  # noqa: ASYNC251 -- that is the test

    proxy.delay = TIMEOUT / 5
    await gather([partial(store.get, key)] * 5 + [work])
    proxy.delay = 0


async def test_callers_who_leave_harm_nobody(store: MongoDBStore, proxy: Proxy, key: str) -> None:
    """Disconnects while the server does not answer: their commands end behind them."""
    await store.set(key, b"data", 60)
    proxy.become("black hole")

    async def leave() -> None:
        with anyio.move_on_after(TIMEOUT / 5):
            await store.get(key)

    await gather([leave] * 40)
    proxy.become("pass")
    await works_again(store, key)
    await gather([partial(store.get, key)] * 100)


@pytest.fixture
async def direct(server: MongoDBServer) -> AsyncIterator[MongoDBStore]:
    store = MongoDBStore(server.uri, timeout=TIMEOUT)
    yield store
    await store.close()


async def test_a_server_that_is_frozen_for_a_while(
    direct: MongoDBStore, server: MongoDBServer, key: str
) -> None:
    await direct.set(key, b"old", 60)
    server.freeze()
    await fails_in_time(direct, key)
    server.thaw()
    await works_again(direct, key)


async def test_a_server_that_is_killed_and_started_again(
    direct: MongoDBStore, server: MongoDBServer, key: str
) -> None:
    await direct.set(key, b"old", 60)
    server.stop(kill=True)
    await fails_in_time(direct, key)
    server.start()
    await works_again(direct, key)


async def test_what_has_failed_is_not_tried_once_more_behind_its_caller(
    direct: MongoDBStore, server: MongoDBServer, key: str
) -> None:
    await direct.set(key, b"old", 60)
    server.stop(kill=True)
    await fails_in_time(direct, key)
    server.start()
    await anyio.sleep(2 * TIMEOUT)
    assert found(await direct.get(key)).data == b"old"


@pytest.mark.parametrize("uri", ["mongodb://u:hunter2@127.0.0.1:9/shop", "127.0.0.1:9"])
async def test_a_server_that_never_was_is_an_error_that_says_why_without_the_password(
    uri: str,
) -> None:
    store = MongoDBStore(uri, timeout=TIMEOUT)
    started = clock()
    why = r"MongoDB at 127\.0\.0\.1:9: no answer within 0\.5 s; .*(refused|Connect call failed)"
    with pytest.raises(StoreError, match=why) as error:
        await store.get("key")
    assert clock() - started < TIMEOUT + MARGIN
    assert "hunter2" not in str(error.value)
    await store.close()
