"""Every store keeps the contract."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiomcache
import emcache
import pytest
from emcache.protocol import MemcacheAsciiProtocol
from mongodb_server import MongoDBServer
from servers import MemcachedServer, RedisServer, memcached_server

from quart_session.stores.base import ANY, Conflict, Expect, Record, Store, Version
from quart_session.stores.encrypted import EncryptedStore
from quart_session.stores.filesystem import FilesystemStore
from quart_session.stores.memcached import MemcachedStore
from quart_session.stores.memory import MemoryStore
from quart_session.stores.mongodb import MongoDBStore
from quart_session.stores.redis import RedisStore
from quart_session.stores.redis_trio import RedisTrioStore
from quart_session.stores.sqlite import SQLiteStore
from quart_session.testing import StoreContract

BOTH = ("asyncio", "trio")

# Seconds; none of these tests is about time-outs, and the machine may have other work.
SLOW = 10


class TestMemory(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestSQLite(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "sessions.sqlite3", timeout=SLOW)


class TestEncryptedMemory(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self) -> EncryptedStore:
        return EncryptedStore(MemoryStore(), [secrets.token_bytes(32)])


class TestEncryptedRedis(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> EncryptedStore:
        inner = RedisStore(redis_server.url, timeout=SLOW)
        return EncryptedStore(inner, [secrets.token_bytes(32)])


class TestFilesystem(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self, tmp_path: Path) -> FilesystemStore:
        return FilesystemStore(tmp_path / "sessions", timeout=SLOW)


class TestMongoDBWithOneConnection(StoreContract):
    @pytest.fixture
    def store(self, mongodb_server: MongoDBServer) -> MongoDBStore:
        return MongoDBStore(mongodb_server.uri + "?maxPoolSize=1", timeout=SLOW)


class TestRedis(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url, timeout=SLOW)


class TestRedisOnUnixSocket(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.unix_url, timeout=SLOW)


class TestRedisWithOneConnection(StoreContract):
    """A connection that came back with somebody else's answer would be the next caller's."""

    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url + "?max_connections=1", timeout=SLOW)


class TestRedisThatDecodes(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url + "?decode_responses=true", timeout=SLOW)


class TestRedisUnderTrio(StoreContract):
    """It has one connection; what one caller leaves in it, the next one gets."""

    backends = ("trio",)

    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisTrioStore:
        return RedisTrioStore(redis_server.url, timeout=SLOW)


class TestRedisUnderTrioOnUnixSocket(StoreContract):
    backends = ("trio",)

    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisTrioStore:
        return RedisTrioStore(redis_server.unix_url, timeout=SLOW)


class TestMemcached(StoreContract):
    resolution = 2

    @pytest.fixture
    def store(self, memcached_server: MemcachedServer) -> Store:
        return MemcachedStore(memcached_server.url, timeout=SLOW)


class WithClientsOfTheUser(Store):
    """Does what an application does that makes a client itself: one in each event loop."""

    timely = True

    def __init__(self, make_client: Callable[[], Awaitable[Any]]) -> None:
        self._make_client = make_client
        self._stores: dict[asyncio.AbstractEventLoop, MemcachedStore] = {}

    async def _store(self) -> MemcachedStore:
        loop = asyncio.get_running_loop()
        if loop not in self._stores:
            client = await self._make_client()
            self._stores[loop] = MemcachedStore(client=client, timeout=SLOW)
        return self._stores[loop]

    async def close(self) -> None:
        store = self._stores.pop(asyncio.get_running_loop(), None)
        if store is not None:
            await store.close()
            client: Any = store.backend
            await client.close()
            await asyncio.sleep(0)

    async def get(self, key: str) -> Record | None:
        return await (await self._store()).get(key)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        return await (await self._store()).set(key, data, ttl, expected)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        return await (await self._store()).delete(key, expected)

    async def touch(self, key: str, ttl: float) -> bool:
        return await (await self._store()).touch(key, ttl)


class TestMemcachedByAClientOfTheUser(TestMemcached):
    """aiomcache, with a pool of one."""

    @pytest.fixture
    def store(self, memcached_server: MemcachedServer) -> Store:
        async def make_client() -> aiomcache.Client:
            return aiomcache.Client("127.0.0.1", memcached_server.port, pool_size=1)

        return WithClientsOfTheUser(make_client)


async def make_emcache(addresses: list[Any], **options: Any) -> emcache.Client:
    """A client that leaves time-outs to the store."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # emcache closes the connection of a cancelled command. A reply that came in the same turn
        # of the loop finds nobody waiting, which emcache tells the loop.
        late = isinstance(context.get("exception"), asyncio.InvalidStateError)
        if not (late and isinstance(context.get("protocol"), MemcacheAsciiProtocol)):
            (handler or type(loop).default_exception_handler)(loop, context)

    loop.set_exception_handler(complain)
    return await emcache.create_client(addresses, timeout=None, **options)


@pytest.fixture(scope="module")
def on_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a second memcached."""
    path = tmp_path_factory.mktemp("memcached") / "memcached.sock"
    with memcached_server(socket=path):
        yield path


class TestTwoMemcachedByEmcache(TestMemcached):
    """One on the loopback interface, one on a Unix socket, with one connection to each."""

    @pytest.fixture
    def store(self, memcached_server: MemcachedServer, on_unix_socket: Path) -> Store:
        addresses = [
            emcache.MemcachedHostAddress("127.0.0.1", memcached_server.port),
            emcache.MemcachedUnixSocketPath(str(on_unix_socket)),
        ]
        return WithClientsOfTheUser(partial(make_emcache, addresses, max_connections=1))
