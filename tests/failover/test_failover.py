"""A master dies or changes under load: what was confirmed is there, and requests go on."""

from __future__ import annotations

import anyio
import pytest
from closing import Closer
from redis.asyncio import RedisCluster
from redis_topologies import Cluster, Topology
from shop import Shop

from quart_session.errors import StoreError
from quart_session.stores.redis import RedisStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("collected"),
    # Under Trio coredis leaves something behind without closing it, where it cannot connect.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

FAILOVER = 20
"""Seconds that a failover may take on a busy machine; an idle one needs about three."""


@both
@pytest.mark.parametrize("servers", ["cluster", "careful sentinels"], indirect=True)
async def test_a_master_that_is_killed_loses_nothing_that_its_replica_had(
    shop: Shop, servers: Topology, soak: bool
) -> None:
    """Its file shows that whatever is lost was confirmed by itself, and not copied in time."""
    lost = 0
    async with shop.busy():
        for _ in range(10 if soak else 1):
            master = servers.master_of(shop.key_of(shop.visitors[0]))
            concerned = [v for v in shop.visitors if servers.master_of(shop.key_of(v)) == master]
            replicas = servers.replicas_of(master)
            servers.servers[master].stop(kill=True)
            # Answers that were on their way arrive; the replicas are not masters yet.
            await anyio.sleep(0.2)
            confirmed = {visitor: visitor.base + visitor.confirmed for visitor in concerned}
            copies = {replica: shop.counts_at(replica, concerned) for replica in replicas}
            for visitor in concerned:
                counts = [copy[visitor] for copy in copies.values()]
                # It is not known which replica takes over.
                visitor.begin_anew(min(counts), more=max(counts) - min(counts))
            had = await anyio.to_thread.run_sync(shop.counts_confirmed_by, master, concerned)
            assert all(confirmed[visitor] <= had[visitor] for visitor in concerned)
            recovery = await shop.until_all_are_served(FAILOVER)
            print(f"{recovery:.1f} s to recover, slowest request {shop.longest:.2f} s")
            servers.servers[master].start()
            await anyio.to_thread.run_sync(servers.wait_until_well)
            successor = copies[servers.master_of(shop.key_of(shop.visitors[0]))]
            lost += sum(max(0, confirmed[v] - successor[v]) for v in concerned)
    await shop.everybody_is_served()
    print(f"{shop.statuses}, {lost} confirmed writes died with their master, {shop.reasons}")
    shop.only_documented_errors()


@both
async def test_a_master_that_falls_silent_is_replaced(shop: Shop, servers: Topology) -> None:
    async with shop.busy():
        master = servers.master_of(shop.key_of(shop.visitors[0]))
        servers.servers[master].freeze()
        await anyio.sleep(0.2)  # answers that were on their way arrive
        recovery = await shop.until_all_are_served(FAILOVER)
        print(f"{recovery:.1f} s to recover, slowest request {shop.longest:.2f} s")
    servers.servers[master].thaw()
    shop.only_documented_errors()


@both
@pytest.mark.parametrize("servers", ["cluster"], indirect=True)
async def test_a_planned_failover_costs_no_request(shop: Shop, servers: Topology) -> None:
    async with shop.busy():
        key = shop.key_of(shop.visitors[0])
        master = servers.master_of(key)
        await anyio.to_thread.run_sync(servers.hand_over, key)
        assert servers.master_of(key) != master
        await shop.until_all_are_served(FAILOVER)
    await shop.everybody_is_served()
    print(shop.statuses, shop.reasons)
    assert set(shop.statuses) == {200}


@pytest.mark.parametrize("servers", ["sentinels"], indirect=True)
async def test_a_planned_failover_in_quiet_hours_is_not_noticed(
    shop: Shop, servers: Topology
) -> None:
    """Sentinels do not halt the old master first: it loses what it confirms meanwhile."""
    await shop.everybody_is_served()
    key = shop.key_of(shop.visitors[0])
    master = servers.master_of(key)
    await anyio.to_thread.run_sync(servers.hand_over, key)
    assert servers.master_of(key) != master
    await shop.everybody_is_served()
    assert set(shop.statuses) == {200}


@pytest.mark.parametrize("servers", ["cluster"], indirect=True)
async def test_a_client_without_time_outs_finds_the_new_master_as_well(
    servers: Cluster, closed_later: Closer
) -> None:
    async with RedisCluster.from_url(servers.servers[0].url, socket_timeout=None) as client:
        store = closed_later(RedisStore(client=client, timeout=0.5))
        await store.set("key", b"data", 60)
        master = servers.master_of("key")
        servers.servers[master].freeze()
        with anyio.fail_after(FAILOVER):
            while True:
                try:
                    await store.set("key", b"new", 60)
                    break
                except StoreError:
                    await anyio.sleep(0.1)
        assert servers.master_of("key") != master
        servers.servers[master].thaw()
