"""What breaks the connections to a cluster is not noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import anyio
import pytest
from redis.asyncio import RedisCluster
from redis_topologies import Cluster
from tcp_proxy import Proxy

from quart_session.stores.base import ABSENT, digest
from quart_session.stores.redis import RedisStore
from quart_session.stores.redis_records import SET
from quart_session.testing import gather

pytestmark = pytest.mark.anyio

# Seconds, in tests that are not about time-outs; the machine may have other work.
SLOW = 10


@pytest.fixture
async def proxies(redis_cluster: Cluster) -> AsyncIterator[dict[int, Proxy]]:
    """By the port of the node that each stands for."""
    async with AsyncExitStack() as stack:
        yield {
            server.port: await stack.enter_async_context(Proxy(server.port))
            for server in redis_cluster.servers
        }


@pytest.fixture
async def store(proxies: dict[int, Proxy]) -> AsyncIterator[RedisStore]:
    def through_proxy(address: tuple[str, int]) -> tuple[str, int]:
        host, port = address
        return host, proxies[port].port if port in proxies else port

    port = next(iter(proxies))
    async with RedisCluster(host="127.0.0.1", port=port, address_remap=through_proxy) as client:
        store = RedisStore(client=client, timeout=SLOW)
        yield store
        await store.close()


async def test_connections_that_broke_while_they_were_idle(
    store: RedisStore, proxies: dict[int, Proxy]
) -> None:
    keys = [f"test:{uuid4().hex}" for _ in range(60)]
    for _ in range(5):
        await gather(partial(store.set, key, b"data", 60) for key in keys)
        for proxy in proxies.values():
            proxy.reset()
        await anyio.sleep(0.01)  # the event loop hears of it
        await gather(partial(store.get, key) for key in keys)


async def test_a_write_whose_reply_is_lost_knows_itself(
    store: RedisStore, proxies: dict[int, Proxy]
) -> None:
    for _ in range(10):
        key = f"test:{uuid4().hex}"
        await store.set(key, b"warm", 60, b"version")
        for proxy in proxies.values():
            proxy.lose_reply(SET.sha.encode())
        assert await store.set(key, b"1", 60, ABSENT) == digest(b"1")
    assert sum(proxy.replies_lost for proxy in proxies.values()) >= 10
