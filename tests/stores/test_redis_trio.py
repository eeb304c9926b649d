"""Redis under Trio: the client that version 3 had, and the store on it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import anyio
import coredis
import pytest
import redis
import trio
from clock import clock
from closing import Closer
from coredis.connection import TCPLocation
from coredis.exceptions import SentinelError
from redis.asyncio import Redis as AsyncioRedis
from redis_topologies import Cluster, Watched
from servers import RedisServer, free_port
from servers import redis_server as run_redis_server

from quart_session.errors import ConfigError, StoreError
from quart_session.redis_trio import RedisTrio
from quart_session.redis_trio.client import Call
from quart_session.redis_trio.client import RedisTrio as SameRedisTrio
from quart_session.redis_trio.errors import RedisError, ResponseError, ResponseTypeError
from quart_session.redis_trio.pooled import PooledClient
from quart_session.stores.base import ABSENT, Conflict, digest
from quart_session.stores.redis_records import RIGHTS
from quart_session.stores.redis_trio import RedisTrioStore
from quart_session.testing import StoreContract, gather, run_and_cancel

pytestmark = pytest.mark.anyio

# Seconds; none of these tests is about time-outs, and the machine may have other work.
SLOW = 10


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with run_redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Any]:
    """Another program's connection to the server."""
    with redis.Redis.from_url(redis_server.url) as admin:
        yield admin


def calls(store: RedisTrioStore, key: str) -> list[Any]:
    """One call of each kind."""
    return [
        partial(store.get, key),
        partial(store.set, key, b"private", 60),
        partial(store.set, key, b"private", 60, ABSENT),
        partial(store.delete, key, b"version"),
        partial(store.touch, key, 60),
        partial(store.delete, key),
    ]


class TestClient:
    """What the README of version 3 shows, and its methods."""

    @pytest.fixture
    async def client(self, redis_server: RedisServer) -> AsyncIterator[RedisTrio]:
        client = RedisTrio(addr=b"127.0.0.1", port=redis_server.port)
        yield await client.connect()
        await client.close()

    def test_it_goes_by_two_names(self) -> None:
        assert RedisTrio is SameRedisTrio

    async def test_it_is_a_context(self, redis_server: RedisServer, key: str) -> None:
        async with RedisTrio("127.0.0.1", redis_server.port) as client:
            await client.set(key, 42)
            assert await client.get(key) == b"42"

    async def test_values_come_back_as_bytes(self, client: RedisTrio, key: str) -> None:
        for value, stored in [
            (b"\0\r\n\xff\\\"'", b"\0\r\n\xff\\\"'"),
            ("žluťoučký 🐎", "žluťoučký 🐎".encode()),
            (42, b"42"),
            (1.5, b"1.5"),
            (None, b"None"),
        ]:
            assert await client.set(key, value) is True
            assert await client.get(key) == stored

    async def test_what_is_absent_is_none(self, client: RedisTrio, key: str) -> None:
        assert await client.get(key) is None

    async def test_setex_gives_a_life(self, client: RedisTrio, key: str, admin: Any) -> None:
        assert await client.setex(key=key, value="data", seconds=300) is True
        assert 295 <= admin.ttl(key) <= 300
        with pytest.raises(TypeError, match="seconds must be an int"):
            await client.setex(key, "data", 1.5)  # type: ignore[arg-type]

    async def test_delete_counts(self, client: RedisTrio, key: str) -> None:
        await client.set(key, 1)
        assert await client.delete(key, key + ":absent") == 1

    async def test_echo_and_quit(self, client: RedisTrio) -> None:
        assert await client.echo("hello") == b"hello"
        assert await client.quit() == b"OK"
        assert await client.echo("again") == b"again"

    async def test_flushall(self, server: RedisServer) -> None:
        async with RedisTrio(port=server.port) as client:
            await client.set("key", 1)
            assert await client.flushall() is True
            assert await client.get("key") is None

    async def test_a_password(self, tmp_path: Path) -> None:
        with run_redis_server(tmp_path, "--requirepass", "right") as server:
            async with RedisTrio(port=server.port, password=b"right") as client:
                assert await client.set("key", 1)
                assert await client.auth(b"right") is True
            for wrong in (b"", b"wrong"):
                with pytest.raises(RedisError):
                    await RedisTrio(port=server.port, password=wrong).connect()

    async def test_a_refusal_is_an_error_of_version_3(
        self, client: RedisTrio, admin: Any, key: str
    ) -> None:
        admin.rpush(key, "item")
        with pytest.raises(ResponseTypeError):
            await client.get(key)
        with pytest.raises(ResponseError):
            await client.execute_command("SET", key)

    async def test_twenty_tasks_share_a_connection_and_get_their_own_answers(
        self, client: RedisTrio, key: str, admin: Any
    ) -> None:
        connections = {one["id"] for one in admin.client_list()}

        async def use(n: int) -> None:
            for _ in range(20):
                await client.set(f"{key}:{n}", n)
                assert await client.get(f"{key}:{n}") == b"%d" % n

        await gather(partial(use, n) for n in range(20))
        assert {one["id"] for one in admin.client_list()} <= connections

    async def test_a_cancelled_get_leaves_its_answer_to_nobody(
        self, client: RedisTrio, key: str
    ) -> None:
        await client.set(key, "somebody's")
        await client.set(key + ":next", "the next one's")
        at = 0
        while not await run_and_cancel(client.get(key), at):
            assert await client.get(key + ":next") == b"the next one's"
            at += 1
        assert at

    async def test_a_silent_server_is_a_time_out(
        self, server: RedisServer, closed_later: Closer
    ) -> None:
        client = closed_later(RedisTrio(port=server.port, timeout=0.2))
        await client.set("key", 1)
        server.freeze()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
            await client.get("key")
        server.thaw()
        assert await client.get("key") == b"1"


class TestEventLoop:
    @pytest.mark.filterwarnings("error")
    def test_nothing_is_left_of_a_store_that_nobody_closed(
        self, redis_server: RedisServer, key: str, admin: Any
    ) -> None:
        store = RedisTrioStore(redis_server.url, timeout=SLOW)
        connections = len(admin.client_list())
        for _ in range(3):
            trio.run(store.set, key, b"data", 60)
        deadline = time.monotonic() + 5
        while len(admin.client_list()) > connections:  # the server hears of it a moment later
            assert time.monotonic() < deadline

    def test_it_ends_while_a_call_waits_for_a_silent_server(self, server: RedisServer) -> None:
        store = RedisTrioStore(server.url, timeout=30)
        server.freeze()

        async def main() -> None:
            with trio.move_on_after(0.1):
                await store.get("key")

        started = clock()
        trio.run(main)
        assert clock() - started < 5

    def test_outside_of_trio_is_a_clear_error(self, redis_server: RedisServer) -> None:
        import asyncio

        store = RedisTrioStore(redis_server.url)
        with pytest.raises(StoreError, match="runs under Trio"):
            asyncio.run(store.get("key"))


def with_a_pool_of_coredis(tests: Any) -> Any:
    """Where that cannot connect, it leaves something behind without closing it."""
    ignore = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
    return ignore(pytest.mark.usefixtures("collected")(tests))


@with_a_pool_of_coredis
class TestCluster(StoreContract):
    backends = ("trio",)

    @pytest.fixture
    def store(self, redis_cluster: Cluster) -> RedisTrioStore:
        return RedisTrioStore(redis_cluster.url, timeout=SLOW)


@with_a_pool_of_coredis
class TestSentinel(StoreContract):
    backends = ("trio",)

    @pytest.fixture
    def store(self, redis_behind_sentinels: Watched) -> RedisTrioStore:
        return RedisTrioStore(redis_behind_sentinels.url, timeout=SLOW)


@with_a_pool_of_coredis
class TestClientsOfTheUser:
    async def test_a_redis_trio_is_used_and_not_closed(
        self, redis_server: RedisServer, key: str
    ) -> None:
        async with RedisTrio(port=redis_server.port) as client:
            number = await client.execute_command("CLIENT", "ID")
            store = RedisTrioStore(client=client, timeout=SLOW)
            version = await store.set(key, b"data", 60)
            assert version == digest(b"data")
            assert await client.get(key) == b"data"
            await store.close()
            assert await client.execute_command("CLIENT", "ID") == number
            assert store.backend is client

    @pytest.mark.parametrize("decode", [False, True])
    @pytest.mark.parametrize("entered", [False, True])
    async def test_a_client_of_coredis_gives_exact_bytes(
        self, redis_server: RedisServer, key: str, decode: bool, entered: bool
    ) -> None:
        client: Any = coredis.Redis.from_url(redis_server.url, decode_responses=decode)

        async def use() -> None:
            store = RedisTrioStore(client=client, timeout=SLOW)
            data = bytes(range(256))
            await store.set(key, data, 60)
            record = await store.get(key)
            assert record is not None
            assert record.data == data
            conflict = await store.set(key, b"new", 60, ABSENT)
            assert isinstance(conflict, Conflict)
            assert conflict.record is not None
            assert conflict.record.data == data
            assert await store.set(key, b"new", 60, digest(data)) == digest(b"new")
            assert await store.touch(key, 30) is True
            assert await store.delete(key, digest(b"new")) is None
            assert await store.get(key) is None
            assert store.backend is client
            await store.close()
            assert await client.get(key) is None

        if entered:
            async with client:
                await use()
        else:
            await use()

    async def test_a_client_of_coredis_with_one_connection_survives_cancelled_calls(
        self, redis_server: RedisServer, key: str
    ) -> None:
        at, finished = 0, False
        while not finished:
            client: Any = coredis.Redis.from_url(redis_server.url, max_connections=1)
            async with client:
                store = RedisTrioStore(client=client, timeout=SLOW)
                finished = await run_and_cancel(store.set(key, b"data", 60), at)
                for n in range(10):
                    await store.set(key, b"%d" % n, 60)
                    record = await store.get(key)
                    assert record is not None
                    assert record.data == b"%d" % n
            at += 1
        assert at > 1

    async def test_a_client_of_coredis_loses_no_connection_to_callers_who_go(
        self, redis_server: RedisServer, key: str
    ) -> None:
        """In whatever turn of the event loop they do."""
        client: Any = coredis.Redis.from_url(redis_server.url, max_connections=2)
        async with client:
            store = RedisTrioStore(client=client, timeout=SLOW)
            chance = Random(3)
            for _ in range(300):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(store.get, key)
                    for _ in range(chance.randrange(12)):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            await store.get(key)

    async def test_a_client_of_coredis_loses_no_place_of_a_connection_that_broke(
        self, redis_server: RedisServer, key: str
    ) -> None:
        client: Any = coredis.Redis.from_url(redis_server.url, max_connections=2)
        async with client:
            store = RedisTrioStore(client=client, timeout=SLOW)

            async def get() -> None:
                with suppress(StoreError):
                    await store.get(key)

            chance = Random(3)
            for _ in range(20):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(get)
                    for _ in range(chance.randrange(12)):
                        await trio.lowlevel.checkpoint()
                    client.connection_pool.disconnect()
            await store.get(key)

    async def test_a_client_behind_sentinels_loses_no_place_while_they_name_no_server(
        self, key: str, closed_later: Closer
    ) -> None:
        sentinels: Any = coredis.Sentinel([TCPLocation("127.0.0.1", free_port())])
        main = partial(sentinels.primary_for, "main", max_connections=2)
        pooled = closed_later(PooledClient(main))
        for _ in range(4):
            with pytest.raises(SentinelError):
                await pooled.ask(Call(("GET", key)), SLOW)

    async def test_a_client_of_a_cluster_works(self, tmp_path: Path, key: str) -> None:
        with run_redis_server(tmp_path, "--cluster-enabled", "yes") as server:
            with redis.Redis.from_url(server.url) as admin:
                admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
                while admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    time.sleep(0.05)  # noqa: ASYNC251 -- nothing else happens here
            node = TCPLocation("127.0.0.1", server.port)
            client: Any = coredis.RedisCluster(startup_nodes=[node])
            store = RedisTrioStore(client=client, timeout=SLOW)
            version = await store.set(key, b"\xff", 60, ABSENT)
            assert version == digest(b"\xff")
            conflict = await store.set(key, b"new", 60, b"version")
            assert isinstance(conflict, Conflict)
            assert await store.touch(key, 30) is True
            assert await store.delete(key, digest(b"\xff")) is None
            assert await store.get(key) is None

    async def test_a_client_that_failed_to_start_is_tried_again(
        self, server: RedisServer, key: str
    ) -> None:
        store = RedisTrioStore(client=coredis.Redis.from_url(server.url), timeout=SLOW)
        server.stop()
        with pytest.raises(StoreError, match="client in SESSION_REDIS"):
            await store.get(key)
        server.start()
        assert await store.get(key) is None

    @pytest.mark.parametrize("make", [AsyncioRedis, redis.Redis, object])
    def test_another_client_is_refused(self, make: Callable[[], Any]) -> None:
        with pytest.raises(ConfigError, match="under Trio it takes a RedisTrio or a client"):
            RedisTrioStore(client=make())


class TestMasters:
    async def test_a_master_that_lacks_replicas_is_waited_for(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisTrioStore(server.url, timeout=0.5))
        with redis.Redis.from_url(server.url) as admin:
            await store.set(key, b"old", 60)
            admin.config_set("min-replicas-to-write", 1)
            for call in (
                partial(store.set, key, b"new", 60),
                partial(store.set, key, b"new", 60, digest(b"old")),
                partial(store.touch, key, 60),
                partial(store.delete, key),
                partial(store.delete, key, digest(b"old")),
            ):
                with pytest.raises(StoreError, match="NOREPLICAS"):
                    await call()
            record = await store.get(key)
            assert record is not None
            assert record.data == b"old"

            async def lower() -> None:
                await anyio.sleep(0.1)
                admin.config_set("min-replicas-to-write", 0)

            patient = closed_later(RedisTrioStore(server.url, timeout=SLOW))
            admin.config_set("min-replicas-to-write", 1)
            await gather([lower, partial(patient.set, key, b"new", 60, digest(b"old"))])
        record = await patient.get(key)
        assert record is not None
        assert record.data == b"new"


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "localhost:6379",
            "http://user:s3cret@localhost",
            "redis://user:s3cret@localhost:port",
            "redis://user:s3cret@localhost?no_such_option=1",
            "redis://user:s3cret@localhost?db=first",
            "redis://user:s3cret@[localhost",
            "redis://user:s3cret@localhost/main",
            "redis+cluster://user:s3cret@host/1",
            "redis://",
            "redis+cluster://user:s3cret@",
            "redis+cluster://user:s3cret@host:port",
            "redis+sentinel://user:s3cret@localhost",
            "redis+sentinel://user:s3cret@localhost/sessions/first",
            "redis+other://user:s3cret@localhost",
            "rediss://user:s3cret@localhost?ssl_ca_certs=/no/such/file",
        ],
    )
    def test_a_bad_url_is_refused_without_showing_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as error:
            RedisTrioStore(url)
        assert "SESSION_URI" in str(error.value)
        assert "s3cret" not in str(error.value)
        assert error.value.__cause__ is None

    @with_a_pool_of_coredis
    async def test_a_server_that_is_no_node_of_a_cluster_is_an_error_that_says_so(
        self, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        url = redis_server.url.replace("redis://", "redis+cluster://user:s3cret@")
        store = closed_later(RedisTrioStore(url.replace("user:s3cret@", ""), timeout=0.3))
        with pytest.raises(StoreError, match="cluster support disabled"):
            await store.get(key)
        store = closed_later(RedisTrioStore(url, timeout=0.3))
        with pytest.raises(StoreError, match="invalid username-password pair") as error:
            await store.get(key)
        assert "s3cret" not in str(error.value)

    async def test_a_database_is_chosen_by_path_or_option(
        self, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        for database in ("/3", "?db=3"):
            store = closed_later(RedisTrioStore(redis_server.url + database, timeout=SLOW))
            await store.set(key, b"data", 60)
            with redis.Redis.from_url(redis_server.url + "/3") as admin:
                assert admin.getdel(key) == b"data"

    async def test_a_user_needs_no_more_rights_than_under_asyncio(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        rights = {"enabled": True, "passwords": ["+p@ss"], "keys": ["*"]}
        with redis.Redis.from_url(server.url) as admin:
            admin.acl_setuser("shop", commands=RIGHTS.split(), **rights)
        store = closed_later(
            RedisTrioStore(server.url.replace("//", "//shop:p%40ss@"), timeout=SLOW)
        )
        for call in calls(store, key):
            await call()
        with redis.Redis.from_url(server.url) as admin:
            admin.acl_setuser("shop", commands=["-del"], **rights)
        with pytest.raises(StoreError, match=r"refused DEL: .*the user needs \+get"):
            await store.delete(key)

    async def test_a_wrong_password_is_an_error_that_does_not_show_it(
        self, tmp_path: Path, closed_later: Closer
    ) -> None:
        with run_redis_server(tmp_path, "--requirepass", "right") as server:
            store = closed_later(
                RedisTrioStore(server.url.replace("//", "//:wr0ng@"), timeout=SLOW)
            )
            with pytest.raises(StoreError, match="AuthenticationFailureError") as error:
                await store.get("secret")
            assert "wr0ng" not in str(error.value)
