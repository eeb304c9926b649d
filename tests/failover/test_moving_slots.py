"""A slot moves from one node of the cluster to another while its sessions are used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from uuid import uuid4

import pytest
from closing import Closer
from redis_topologies import Cluster, redis_cluster

from quart_session.stores.base import ABSENT, Conflict, digest
from quart_session.stores.redis import RedisStore
from quart_session.testing import gather

pytestmark = pytest.mark.anyio

# Seconds, in tests that are not about time-outs; the machine may have other work.
SLOW = 10


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[RedisStore]:
    store = RedisStore(cluster.url, timeout=SLOW)
    yield store
    await store.close()


class Move:
    """The slot of *key* moves to another master, step by step."""

    def __init__(self, cluster: Cluster, key: str) -> None:
        self.slot = cluster.slot(key)
        source = cluster.master_of(key)
        target = next(n for n in map(cluster.master_of, map(str, range(100))) if n != source)
        self.port = cluster.servers[target].port
        self.ids = cluster.ids[source], cluster.ids[target]
        self.source, self.target = cluster.admins[source], cluster.admins[target]
        self.others = [cluster.admins[cluster.master_of(str(n))] for n in range(100)]

    def begin(self) -> None:
        source, target = self.ids
        self.target.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", source)
        self.source.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", target)

    def carry(self, *keys: str) -> None:
        for key in keys:
            self.source.execute_command("MIGRATE", "127.0.0.1", self.port, key, 0, 5000)

    def end(self) -> None:
        for admin in (self.target, self.source, *self.others):
            admin.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[1])


@pytest.fixture
async def keys(store: RedisStore) -> list[str]:
    """Sessions of one slot, on a client with several connections to each node."""
    tag = uuid4().hex
    keys = [f"s:{{{tag}}}:{n}" for n in range(200)]
    await gather(partial(store.set, key, b"1", 60) for key in keys)
    return keys


async def use(store: RedisStore, key: str) -> None:
    """Every kind of call, from a count to the next."""
    record = await store.get(key)
    assert record is not None
    data = b"%d" % (int(record.data) + 1)
    assert isinstance(await store.set(key, b"0", 60, ABSENT), Conflict)
    assert await store.set(key, data, 60, record.version) == digest(data)
    assert await store.touch(key, 60) is True


async def test_sessions_are_found_wherever_they_are(
    cluster: Cluster, store: RedisStore, keys: list[str]
) -> None:
    move = Move(cluster, keys[0])
    use_all = partial(gather, [partial(use, store, key) for key in keys])
    move.begin()
    await use_all()
    move.carry(*keys[::2])
    await use_all()
    assert await store.set(keys[0] + ":new", b"1", 60, ABSENT) == digest(b"1")
    move.carry(*keys[1::2])
    await use_all()
    move.end()
    await use_all()
    for key in keys:
        record = await store.get(key)
        assert record is not None
        assert record.data == b"5"
    for key in [*keys, keys[0] + ":new"]:
        assert await store.delete(key, b"another") is not None
        await store.delete(key)
        assert await store.get(key) is None


async def test_a_client_that_knows_nothing_of_the_move_is_told(
    cluster: Cluster, keys: list[str], closed_later: Closer
) -> None:
    move = Move(cluster, keys[0])
    move.begin()
    move.carry(*keys)
    newcomer = closed_later(RedisStore(cluster.url, timeout=SLOW))
    await use(newcomer, keys[0])
    move.end()
    await use(newcomer, keys[0])


async def test_a_node_that_lost_the_scripts_gets_them_anew(
    cluster: Cluster, store: RedisStore, keys: list[str]
) -> None:
    for admin in cluster.admins:
        admin.script_flush()
    await gather(partial(use, store, key) for key in keys)
