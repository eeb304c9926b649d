"""A Redis that a test may harm, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers import RedisServer
from servers import redis_server as run_redis_server
from tcp_proxy import Proxy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill; it keeps on disk whatever it confirmed."""
    with run_redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """The way to the server that all tests share."""
    async with Proxy(redis_server.port) as proxy:
        yield proxy
