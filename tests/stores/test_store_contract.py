"""Every store keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import RedisServer

from quart_session.stores.filesystem import FilesystemStore
from quart_session.stores.memory import MemoryStore
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


class TestFilesystem(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self, tmp_path: Path) -> FilesystemStore:
        return FilesystemStore(tmp_path / "sessions", timeout=SLOW)


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
