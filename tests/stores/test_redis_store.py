"""The Redis store beyond the contract: what lies there, clients, outages."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
import redis
from clock import clock
from closing import Closer
from redis.asyncio import Redis, RedisCluster
from servers import RedisServer
from servers import redis_server as run_redis_server

from quart_session.errors import ConfigError, StoreError
from quart_session.sessions import RedisSessionInterface
from quart_session.stores.base import ABSENT, Conflict, Record, digest
from quart_session.stores.redis import RedisStore
from quart_session.testing import gather

pytestmark = pytest.mark.anyio

# Seconds, in tests that are not about time-outs; the machine may have other work.
SLOW = 10


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_server.url, timeout=SLOW)
    yield store
    await store.close()


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Another program's connection to the server."""
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    with run_redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


def calls(store: RedisStore, key: str) -> list[Any]:
    """One call of each kind."""
    return [
        partial(store.get, key),
        partial(store.set, key, b"private", 60),
        partial(store.set, key, b"private", 60, ABSENT),
        partial(store.delete, key, b"version"),
        partial(store.touch, key, 60),
        partial(store.delete, key),
    ]


class TestWhatLiesThere:
    async def test_the_value_is_the_plain_data(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        await store.set(key, b'{"plain": 1}', 60)
        assert await client.get(key) == b'{"plain": 1}'
        version = digest(b'{"plain": 1}')
        await store.set(key, b'{"plain": 2}', 60, version)
        assert await client.get(key) == b'{"plain": 2}'

    @pytest.mark.parametrize(("ttl", "expected"), [(0.0001, 1), (0.4, 400), (2.0005, 2001)])
    async def test_a_life_is_milliseconds_rounded_up(
        self,
        store: RedisStore,
        key: str,
        monkeypatch: pytest.MonkeyPatch,
        ttl: float,
        expected: int,
    ) -> None:
        sent: list[tuple[object, ...]] = []

        async def command(*args: object, repeatable: bool = False) -> int:
            sent.append(args)
            return 1

        monkeypatch.setattr(store, "_command", command)
        await store.set(key, b"", ttl)
        await store.touch(key, ttl)
        assert sent == [("SET", key, b"", "PX", expected), ("PEXPIRE", key, expected)]

    async def test_a_value_without_a_life_is_a_record(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        await client.set(key, b"data")
        assert await store.get(key) == Record(b"data", digest(b"data"), None)

    async def test_a_value_of_another_type_is_no_record(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        await client.rpush(key, b"item")
        assert await store.get(key) is None
        assert await store.set(key, b"data", 60, b"version") == Conflict(None)
        assert await store.set(key, b"data", 60, ABSENT) == digest(b"data")

    async def test_a_flushed_script_is_loaded_again(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        version = await store.set(key, b"1", 60, ABSENT)
        for command in ("get", "set", "delete"):
            await client.script_flush()
            if command == "get":
                record = await store.get(key)
                assert record is not None
                version = record.version
            elif command == "set":
                assert isinstance(version, bytes)
                version = await store.set(key, b"2", 60, version)
                assert version == digest(b"2")
            else:
                assert isinstance(version, bytes)
                assert await store.delete(key, version) is None

    async def test_each_call_is_one_round_trip(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        for _ in range(2):  # the first time scripts are loaded and a connection is made
            before = (await client.info("stats"))["total_commands_processed"]
            for call in calls(store, key):
                await call()
        after = (await client.info("stats"))["total_commands_processed"]
        # What scripts call is counted as well; the INFO in between is one more.
        scripts = {"get": 1, "create": 1, "delete": 2}
        assert after - before <= len(calls(store, key)) + sum(scripts.values()) + 2


class TestClients:
    @pytest.mark.parametrize("decode", [False, True])
    async def test_a_client_of_the_user_gives_exact_bytes(
        self, redis_server: RedisServer, key: str, decode: bool
    ) -> None:
        async with Redis.from_url(redis_server.url, decode_responses=decode) as client:
            store = RedisStore(client=client, timeout=SLOW)
            data = bytes(range(256))
            await store.set(key, data, 60)
            record = await store.get(key)
            assert record is not None
            assert record.data == data
            conflict = await store.set(key, b"new", 60, ABSENT)
            assert isinstance(conflict, Conflict)
            assert conflict.record is not None
            assert conflict.record.data == data
            assert store.backend is client

    @pytest.mark.parametrize(("decode", "value"), [(False, b"value"), (True, "value")])
    async def test_the_backend_as_a_cache_gives_what_the_client_gives_as_in_version_3(
        self, redis_server: RedisServer, key: str, decode: bool, value: str | bytes
    ) -> None:
        async with Redis.from_url(redis_server.url, decode_responses=decode) as client:
            interface = RedisSessionInterface(client, key_prefix="session:")
            await interface.set(key, "value", expiry=60)
            assert await interface.get(key) == value

    async def test_a_client_of_the_user_is_never_closed(
        self, redis_server: RedisServer, key: str
    ) -> None:
        async with Redis.from_url(redis_server.url, single_connection_client=True) as client:
            store = RedisStore(client=client, timeout=SLOW)
            await store.set(key, b"data", 60)
            number = await client.client_id()
            await store.close()
            assert await client.client_id() == number

    @pytest.mark.parametrize("decode", [False, True])
    async def test_a_client_of_a_cluster_works(
        self, tmp_path: Path, key: str, decode: bool
    ) -> None:
        with run_redis_server(tmp_path, "--cluster-enabled", "yes") as server:
            async with Redis.from_url(server.url, decode_responses=True) as admin:
                await admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
                state = partial(admin.execute_command, "CLUSTER", "INFO")
                while "state:ok" not in str(await state()):  # noqa: ASYNC110 -- sends no event
                    await anyio.sleep(0.05)
            async with RedisCluster.from_url(server.url, decode_responses=decode) as client:
                store = RedisStore(client=client, timeout=SLOW)
                version = await store.set(key, b"\xff", 60, ABSENT)
                assert version == digest(b"\xff")
                conflict = await store.set(key, b"new", 60, b"version")
                assert isinstance(conflict, Conflict)
                assert conflict.record is not None
                assert conflict.record.data == b"\xff"
                assert await store.touch(key, 30) is True
                assert await store.delete(key, digest(b"\xff")) is None
                assert await store.get(key) is None

    def test_a_client_of_the_user_in_a_second_loop_is_a_clear_error(
        self, redis_server: RedisServer, key: str
    ) -> None:
        client = Redis.from_url(redis_server.url)
        store = RedisStore(client=client, timeout=SLOW)
        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(store.set(key, b"data", 60))
            try:
                with pytest.raises(StoreError, match="another event loop"):
                    second.run(store.get(key))
            finally:
                first.run(client.aclose())

    def test_a_client_that_is_not_asynchronous_is_refused(self) -> None:
        with redis.Redis() as client, pytest.raises(ConfigError) as error:
            RedisStore(client=client)
        assert "SESSION_REDIS = redis.client.Redis instance" in str(error.value)
        assert "redis.asyncio" in str(error.value)

    def test_a_fake_client_is_refused_with_a_hint_for_tests(self) -> None:
        fake = type("FakeRedis", (Redis,), {"__module__": "fakeredis.aioredis"})
        with pytest.raises(ConfigError, match='SESSION_TYPE = "memory"'):
            RedisStore(client=fake())

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:6379",
            "http://user:s3cret@localhost",
            "redis://user:s3cret@localhost?socket_timeout=soon",
            "redis://user:s3cret@localhost?no_such_option=1",
            "redis://user:s3cret@[localhost",
            "redis://user:s3cret@localhost/main",
            "redis://user:s3cret@localhost/0/1",
            "redis+cluster://user:s3cret@host/1",
            "redis+cluster://user:s3cret@",
            "redis+cluster://user:s3cret@host:port",
            "redis+cluster://user:s3cret@host?no_such_option=1",
            "redis+sentinel://user:s3cret@host:26379",
            "redis+sentinel://user:s3cret@host,/service",
            "redis+sentinel://user:s3cret@host/service/database",
            "redis+sentinel://user:s3cret@host/service?no_such_option=1",
        ],
    )
    def test_a_bad_url_is_refused_without_showing_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as error:
            RedisStore(url)
        assert "SESSION_URI" in str(error.value)
        assert "s3cret" not in str(error.value)
        assert error.value.__cause__ is None

    async def test_a_url_says_hosts_user_and_options_of_a_cluster(self) -> None:
        store = RedisStore("rediss+cluster://ada:p%2Css@one,[::1]:7001?max_connections=3")
        client: Any = store.backend
        nodes = client.nodes_manager.startup_nodes.values()
        assert {(node.host, node.port) for node in nodes} == {("one", 6379), ("::1", 7001)}
        options = client.get_connection_kwargs()
        assert (options["username"], options["password"]) == ("ada", "p,ss")
        assert options["max_connections"] == 3
        assert options["ssl_check_hostname"] is True

    async def test_a_url_says_sentinels_service_and_database(self) -> None:
        store = RedisStore(
            "redis+sentinel://ada:one@a,b:2/main/5?sentinel_username=eve&sentinel_password=two"
        )
        pool = store.backend.connection_pool  # type: ignore[attr-defined]
        assert pool.service_name == "main"
        options = pool.connection_kwargs
        assert (options["username"], options["password"], options["db"]) == ("ada", "one", 5)
        asked = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
        assert [(one["host"], one["port"]) for one in asked] == [("a", 26379), ("b", 2)]
        assert {(one["username"], one["password"]) for one in asked} == {("eve", "two")}

    async def test_the_backend_is_the_client_of_the_running_loop(
        self, store: RedisStore, key: str
    ) -> None:
        await store.set(key, b"data", 60)
        client = store.backend
        assert isinstance(client, Redis)
        assert store.backend is client
        assert await client.get(key) == b"data"

    def test_there_is_no_backend_outside_of_a_loop(self) -> None:
        assert RedisStore().backend is None

    def test_a_loop_that_has_ended_is_forgotten(self, redis_server: RedisServer) -> None:
        store = RedisStore(redis_server.url)

        async def make_a_client() -> None:
            assert store.backend is not None

        for _ in range(3):
            asyncio.run(make_a_client())
        assert len(store._clients) == 1

    def test_trio_is_a_clear_error(self, redis_server: RedisServer, key: str) -> None:
        store = RedisStore(redis_server.url)

        async def main() -> None:
            with pytest.raises(StoreError, match="Trio"):
                await store.get(key)
            await store.close()

        anyio.run(main, backend="trio")

    async def test_many_callers_share_few_connections_in_their_order(
        self, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(redis_server.url + "?max_connections=2", timeout=5))
        rounds = dict.fromkeys(range(50), 0)
        spread = 0

        async def use(n: int) -> None:
            nonlocal spread
            for _ in range(20):
                await store.get(key)
                rounds[n] += 1
                if n:  # the first one pays for the connection
                    spread = max(spread, max(rounds.values()) - min(rounds.values()))

        await gather(partial(use, n) for n in rounds)
        assert spread <= 3


class TestOutages:
    async def test_a_stopped_server_is_an_error_and_its_return_is_seen(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(server.url, timeout=0.5))
        for call in calls(store, key):
            await call()
        server.stop(kill=True)
        for call in calls(store, key):
            started = clock()
            with pytest.raises(StoreError, match="Redis at redis://127"):
                await call()
            assert clock() - started < 1.4
        server.start()
        for call in calls(store, key):
            await call()

    async def test_a_silent_server_is_an_error_in_time_and_answers_stay_in_place(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(server.url + "?max_connections=2", timeout=0.5))
        await gather(partial(store.set, f"{key}:{n}", b"%d" % n, 60) for n in range(20))
        server.freeze()

        async def fails(n: int) -> None:
            started = clock()
            with pytest.raises(StoreError, match=r"no answer within 0\.5 s"):
                await store.get(f"{key}:{n}")
            assert clock() - started < 1.4

        await gather(partial(fails, n) for n in range(20))
        server.thaw()
        for _ in range(5):
            for n in range(20):
                record = await store.get(f"{key}:{n}")
                assert record is not None
                assert record.data == b"%d" % n

    async def test_connections_that_the_server_closed_are_made_again(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(server.url, timeout=SLOW))
        async with Redis.from_url(server.url) as admin:
            for n in range(len(calls(store, key))):
                await gather([partial(store.get, key)] * 5)
                await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await calls(store, key)[n]()

    async def test_a_restarted_server_is_not_noticed(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(server.url, timeout=SLOW))
        for call in calls(store, key):
            await call()
            server.stop()
            server.start()
            await anyio.sleep(0.05)  # the event loop hears of the closed connections
            await call()

    async def test_an_address_that_swallows_everything_is_an_error_in_time(
        self, closed_later: Closer
    ) -> None:
        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(swallow, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            store = closed_later(RedisStore(f"redis://user:s3cret@127.0.0.1:{port}", timeout=0.3))
            started = clock()
            with pytest.raises(StoreError) as error:
                await store.get("secret")
            assert clock() - started < 1.4
            assert "s3cret" not in str(error.value)

    async def test_a_wrong_password_is_an_error_that_does_not_show_it(
        self, tmp_path: Path, closed_later: Closer
    ) -> None:
        with run_redis_server(tmp_path, "--requirepass", "right") as server:
            url = server.url.replace("//", "//:wr0ng@")
            store = closed_later(RedisStore(url, timeout=SLOW))
            with pytest.raises(StoreError) as error:
                await store.get("secret")
            assert "AuthenticationError" in str(error.value)
            assert "wr0ng" not in str(error.value)
            store = closed_later(RedisStore(server.url.replace("//", "//:right@"), timeout=SLOW))
            assert await store.get("secret") is None

    async def test_a_refusal_shows_neither_key_nor_data(
        self, tmp_path: Path, closed_later: Closer
    ) -> None:
        forbidden = ("EVAL", "EVALSHA", "SET", "PEXPIRE", "DEL")
        options = [part for name in forbidden for part in ("--rename-command", name, "")]
        with run_redis_server(tmp_path, *options) as server:
            store = closed_later(RedisStore(server.url, timeout=SLOW))
            for call in calls(store, "secret"):
                with pytest.raises(StoreError) as error:
                    await call()
                assert "unknown command" in str(error.value)
                shown = f"{error.value} {error.value.__cause__}"
                assert "secret" not in shown
                assert "private" not in shown

    async def test_a_full_server_keeps_the_old_record(
        self, tmp_path: Path, key: str, closed_later: Closer
    ) -> None:
        with run_redis_server(tmp_path, "--maxmemory-policy", "noeviction") as server:
            store = closed_later(RedisStore(server.url, timeout=SLOW))
            await store.set(key, b"old", 60)
            async with Redis.from_url(server.url) as admin:
                await admin.config_set("maxmemory", "1")
            for expected in (None, digest(b"old")):
                with pytest.raises(StoreError, match=r"OutOfMemory|OOM"):
                    if expected is None:
                        await store.set(key, b"new", 60)
                    else:
                        await store.set(key, b"new", 60, expected)
            async with Redis.from_url(server.url) as admin:
                await admin.config_set("maxmemory", "0")
                assert await admin.get(key) == b"old"

    async def test_a_master_that_became_a_replica_is_left_for_another(
        self, server: RedisServer, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        """Its name may belong to another server now, as with the services that cloud hosts sell."""
        store = closed_later(RedisStore(server.url))
        for call in calls(store, key):
            await call()
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command("REPLICAOF", "127.0.0.1", redis_server.port)
            connections = (await admin.info("stats"))["total_connections_received"]
            for call in calls(store, key)[1:3]:
                with pytest.raises(StoreError, match="became a replica"):
                    await call()
            assert (await admin.info("stats"))["total_connections_received"] >= connections + 2
            await admin.execute_command("REPLICAOF", "NO", "ONE")
        for call in calls(store, key):
            await call()

    async def test_a_master_that_lacks_replicas_is_waited_for(
        self, server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(RedisStore(server.url, timeout=0.5))
        async with Redis.from_url(server.url) as admin:
            await store.set(key, b"old", 60)
            await admin.config_set("min-replicas-to-write", 1)
            for call in (
                partial(store.set, key, b"new", 60),
                partial(store.set, key, b"new", 60, digest(b"old")),
                partial(store.touch, key, 60),
                partial(store.delete, key),
                partial(store.delete, key, digest(b"old")),
            ):
                with pytest.raises(StoreError, match="too few replicas"):
                    await call()
            record = await store.get(key)
            assert record is not None
            assert record.data == b"old"

            async def lower() -> None:
                await anyio.sleep(0.1)
                await admin.config_set("min-replicas-to-write", 0)

            patient = closed_later(RedisStore(server.url, timeout=10))
            await admin.config_set("min-replicas-to-write", 1)
            await gather([lower, partial(patient.set, key, b"new", 60, digest(b"old"))])
        record = await patient.get(key)
        assert record is not None
        assert record.data == b"new"


class TestBatches:
    """Commands of the same turn of the event loop leave together."""

    async def test_they_share_round_trips_and_connections(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        await store.get(key)
        before = await client.info("stats")
        await gather([partial(store.get, key)] * 64)
        after = await client.info("stats")
        reads = after["total_reads_processed"] - before["total_reads_processed"]
        new = after["total_connections_received"] - before["total_connections_received"]
        assert reads < 64 / 4
        assert new < 64 / 4

    async def test_an_error_of_one_is_not_that_of_another(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        await store.get(key)
        await client.rpush(key + ":list", "item")
        calls = [
            partial(store._command, "SET", key, b"data", "PX", 60_000),
            partial(store._command, "SET", key, b"data", "PX", -1),
            partial(store._command, "GET", key + ":list"),
            partial(store._command, "GET", key),
        ]
        results = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
        assert [type(result) for result in results] == [bytes, StoreError, StoreError, bytes]
        assert results[3] == b"data"

    async def test_who_is_cancelled_before_it_left_is_left_behind(
        self, store: RedisStore, key: str
    ) -> None:
        tasks = [asyncio.create_task(store.set(f"{key}:{n}", b"data", 60)) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks)
        for n in range(20):
            assert (await store.get(f"{key}:{n}") is not None) is (n % 2 == 1)

    async def test_one_that_was_cancelled_before_it_began_takes_nobody_along(
        self, store: RedisStore, key: str
    ) -> None:
        """As the end of ``asyncio.run()`` does, while handlers still save what they have."""
        before = asyncio.all_tasks()
        read = asyncio.create_task(store.get(key))
        await asyncio.sleep(0)  # it has asked, and that is all
        (batch,) = asyncio.all_tasks() - before - {read}
        batch.cancel()
        async with asyncio.timeout(5):
            assert await store.set(key, b"data", 60) == digest(b"data")
            await read

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
    def test_tasks_may_be_eager(self, redis_server: RedisServer, key: str) -> None:
        store = RedisStore(redis_server.url, timeout=SLOW)

        async def main() -> list[object]:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            async with asyncio.timeout(5):
                await store.set(key, b"data", 60)
                records = await asyncio.gather(*(store.get(key) for _ in range(40)))
                await store.close()
                return [record and record.data for record in records]

        assert asyncio.run(main()) == [b"data"] * 40

    async def test_closing_waits_for_what_is_on_its_way(
        self, store: RedisStore, client: Redis, key: str
    ) -> None:
        before = asyncio.all_tasks()
        await store.get(key)
        await client.execute_command("CLIENT", "PAUSE", 200, "WRITE")
        task = asyncio.create_task(store.set(key, b"data", 60))
        await anyio.sleep(0.05)
        task.cancel()
        await store.close()
        assert asyncio.all_tasks() <= before | {task}
        assert await client.get(key) == b"data"


class TestClientsThatOthersUse:
    async def test_a_connection_that_others_have_is_waited_for(
        self, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        async with Redis.from_url(redis_server.url, max_connections=1) as client:
            store = closed_later(RedisStore(client=client, timeout=SLOW))
            taken = asyncio.create_task(client.blpop([key + ":list"], timeout=5))
            await anyio.sleep(0.05)
            waiting = asyncio.create_task(store.set(key, b"data", 60))
            await anyio.sleep(0.1)
            assert not waiting.done()
            async with Redis.from_url(redis_server.url) as other:
                await other.rpush(key + ":list", "go")
            await taken
            assert await waiting == digest(b"data")

    async def test_one_that_is_never_given_back_is_an_error_in_time(
        self, redis_server: RedisServer, key: str, closed_later: Closer
    ) -> None:
        async with Redis.from_url(redis_server.url, max_connections=1) as client:
            store = closed_later(RedisStore(client=client, timeout=0.3))
            taken = asyncio.create_task(client.blpop([key + ":list"], timeout=5))
            await anyio.sleep(0.05)
            started = clock()
            with pytest.raises(StoreError, match="onnections"):
                await store.set(key, b"data", 60)
            assert clock() - started < 1.2
            taken.cancel()
            await asyncio.wait([taken])
