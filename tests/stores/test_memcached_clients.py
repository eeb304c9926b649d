"""Which client the memcached store uses: its own for a URL, or the user's, and in which loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiomcache
import anyio
import pytest
from closing import Closer
from memcached_clients import emcache_client
from servers import MemcachedServer
from servers import memcached_server as run_memcached_server

from quart_session.config import SessionConfig
from quart_session.errors import ConfigError, StoreError
from quart_session.stores import load_store
from quart_session.stores.base import Conflict
from quart_session.stores.memcached import MemcachedStore
from quart_session.testing import found, gather

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(memcached_server: MemcachedServer) -> AsyncIterator[MemcachedStore]:
    store = MemcachedStore(memcached_server.url, timeout=5)
    yield store
    await store.close()


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


class TestURL:
    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({}, "127.0.0.1:11211"),
            ({"SESSION_MEMCACHED_HOST": "cache.test"}, "cache.test:11211"),
            ({"SESSION_MEMCACHED_PORT": 1234}, "127.0.0.1:1234"),
            ({"SESSION_MEMCACHED_PORT": "1234"}, "127.0.0.1:1234"),
            ({"SESSION_MEMCACHED_HOST": "::1", "SESSION_MEMCACHED_PORT": 1}, "::1:1"),
            ({"SESSION_URI": "memcached://cache.test"}, "cache.test:11211"),
            ({"SESSION_URI": "memcached://cache.test:1/?max_connections=3"}, "cache.test:1"),
        ],
        ids=str,
    )
    def test_where_the_server_is(self, settings: dict[str, Any], name: str) -> None:
        config = SessionConfig.from_mapping({"SESSION_TYPE": "memcached", **settings})
        store = load_store(config)
        assert isinstance(store, MemcachedStore)
        assert store._name == f"memcached at {name}"

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:11211",
            "redis://localhost",
            "memcached://user:s3cret@localhost",
            "memcached://localhost/3",
            "memcached://localhost?max_connections=0",
            "memcached://localhost?max_connections=few",
            "memcached://localhost?socket_timeout=1",
            "memcached://localhost:port",
            "memcached://[localhost",
        ],
    )
    def test_a_bad_url_is_refused_without_showing_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as error:
            MemcachedStore(url)
        assert "SESSION_URI" in str(error.value)
        assert "s3cret" not in str(error.value)
        assert error.value.__cause__ is None


class TestClientsOfItsOwn:
    async def test_the_backend_is_the_client_of_the_running_loop(
        self, store: MemcachedStore, key: str
    ) -> None:
        await store.set(key, b"data", 60)
        client = store.backend
        assert isinstance(client, aiomcache.Client)
        assert store.backend is client
        assert await client.get(key.encode()) == b"data"

    def test_there_is_no_backend_outside_of_a_loop(self) -> None:
        assert MemcachedStore().backend is None

    def test_a_loop_that_has_ended_is_forgotten(self) -> None:
        store = MemcachedStore()

        async def make_a_client() -> None:
            assert store.backend is not None

        for _ in range(3):
            asyncio.run(make_a_client())
        assert len(store._clients) == 1

    def test_trio_is_a_clear_error(self, key: str) -> None:
        store = MemcachedStore()

        async def main() -> None:
            with pytest.raises(StoreError, match="Trio"):
                await store.get(key)
            await store.close()

        anyio.run(main, backend="trio")

    async def test_many_callers_share_a_connection_in_their_order(
        self, memcached_server: MemcachedServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(MemcachedStore(memcached_server.url + "?max_connections=1", timeout=5))
        rounds = dict.fromkeys(range(50), 0)
        spread = 0

        async def use(n: int) -> None:
            nonlocal spread
            for _ in range(20):
                await store.get(key)
                rounds[n] += 1
                spread = max(spread, max(rounds.values()) - min(rounds.values()))

        await gather(partial(use, n) for n in rounds)
        assert spread <= 1


class TestClientsOfTheUser:
    @pytest.mark.parametrize("kind", [aiomcache.Client, aiomcache.FlagClient])
    async def test_aiomcache_of_the_user_is_used_and_never_closed(
        self, memcached_server: MemcachedServer, key: str, kind: Any, closed_later: Closer
    ) -> None:
        client = closed_later(kind("127.0.0.1", memcached_server.port, pool_size=1))
        store = MemcachedStore(client=client, timeout=5)
        assert store.backend is client
        await store.set(key, b"data", 60)
        connections = (await client.stats())[b"total_connections"]
        await store.close()
        assert (await client.stats())[b"total_connections"] == connections
        assert await client.get(key.encode()) == b"data"

    async def test_a_reply_that_the_users_cancelled_command_left_is_not_taken_for_ours(
        self, memcached_server: MemcachedServer, key: str, closed_later: Closer
    ) -> None:
        client = closed_later(aiomcache.Client("127.0.0.1", memcached_server.port, pool_size=1))
        store = MemcachedStore(client=client, timeout=5)
        for n in range(10):
            await store.set(key, b"%d" % n, 60)
            version = found(await store.get(key)).version
            await client.set(key.encode(), b"theirs")
            # It has been sent, and its reply is STORED.
            cancelled = asyncio.create_task(client.set(key.encode() + b":other", b""))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            if n % 2:
                await asyncio.sleep(0.02)
            answer = await store.set(key, b"ours", 60, version)
            assert isinstance(answer, Conflict)
            assert found(answer.record).data == b"theirs"

    async def test_emcache_of_the_user_is_used_and_never_closed(
        self, memcached_server: MemcachedServer, key: str
    ) -> None:
        async with emcache_client(memcached_server.port) as client:
            store = MemcachedStore(client=client, timeout=5)
            assert store.backend is client
            await store.set(key, b"data", 60)
            await store.close()
            assert not client.closed
            item = await client.get(key.encode())
            assert item is not None
            assert item.value == b"data"

    async def test_emcache_must_not_batch_its_reads(
        self, memcached_server: MemcachedServer
    ) -> None:
        async with emcache_client(memcached_server.port, autobatching=True) as client:
            with pytest.raises(ConfigError, match="autobatching"):
                MemcachedStore(client=client)

    async def test_a_user_must_be_known_to_the_server(
        self, tmp_path: Path, key: str, closed_later: Closer
    ) -> None:
        """TLS and passwords are emcache's; without one, the server's refusal is an error."""
        users = tmp_path / "users"
        users.write_text("ada:s3cret\n")
        with run_memcached_server("-Y", str(users)) as server:
            store = closed_later(MemcachedStore(server.url, timeout=5))
            with pytest.raises(StoreError, match="unauthenticated"):
                await store.get(key)
            async with emcache_client(server.port, username="ada", password="s3cret") as client:
                store = closed_later(MemcachedStore(client=client, timeout=5))
                await store.set(key, b"data", 60)
                assert found(await store.get(key)).data == b"data"

    def test_a_client_in_a_second_loop_is_a_clear_error(
        self, memcached_server: MemcachedServer, key: str
    ) -> None:
        client = aiomcache.Client("127.0.0.1", memcached_server.port, pool_size=1)
        store = MemcachedStore(client=client, timeout=5)
        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(store.set(key, b"data", 60))
            try:
                with pytest.raises(StoreError, match="another event loop"):
                    second.run(store.get(key))
            finally:
                first.run(client.close())
                first.run(asyncio.sleep(0))

    def test_a_client_that_the_application_used_in_another_loop_is_a_clear_error(
        self, memcached_server: MemcachedServer, key: str
    ) -> None:
        client = aiomcache.Client("127.0.0.1", memcached_server.port, pool_size=1)
        store = MemcachedStore(client=client)
        with asyncio.Runner() as first, asyncio.Runner() as second:
            first.run(client.get(key.encode()))
            try:
                with pytest.raises(StoreError, match="another event loop"):
                    second.run(store.get(key))
            finally:
                first.run(client.close())
                first.run(asyncio.sleep(0))

    @pytest.mark.parametrize("client", [object(), "localhost"], ids=["object", "text"])
    def test_another_kind_of_client_is_refused(self, client: object) -> None:
        with pytest.raises(ConfigError, match=r"aiomcache\.Client or an emcache\.Client"):
            MemcachedStore(client=client)
