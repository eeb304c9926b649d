"""Every store keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import RedisServer

from quart_session.stores.memory import MemoryStore
from quart_session.stores.redis import RedisStore
from quart_session.stores.sqlite import SQLiteStore
from quart_session.testing import StoreContract

BOTH = ("asyncio", "trio")


class TestMemory(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestSQLite(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "sessions.sqlite3")


class TestRedis(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url)


class TestRedisOnUnixSocket(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.unix_url)


class TestRedisWithOneConnection(StoreContract):
    """A connection that came back with somebody else's answer would be the next caller's."""

    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url + "?max_connections=1")


class TestRedisThatDecodes(StoreContract):
    @pytest.fixture
    def store(self, redis_server: RedisServer) -> RedisStore:
        return RedisStore(redis_server.url + "?decode_responses=true")
