"""Redis servers of which a test may kill some, and a shop that keeps its sessions there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from quart import Quart
from quart_trio import QuartTrio
from redis_topologies import Topology, redis_behind_sentinels, redis_cluster
from shop import Shop

KEEPING = ("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")
"""A server that is killed leaves a file with whatever it has confirmed."""


def cluster(folder: Path) -> AbstractContextManager[Topology]:
    return redis_cluster(folder, *KEEPING)


def sentinels(folder: Path) -> AbstractContextManager[Topology]:
    return redis_behind_sentinels(folder, *KEEPING)


def careful_sentinels(folder: Path) -> AbstractContextManager[Topology]:
    """Busy sentinels may replace a master that lives. It hears of that seconds later and loses what
    it confirmed meanwhile. These are slow to suspect one, and it confirms nothing once its replicas
    follow another."""
    options = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
    return redis_behind_sentinels(folder, *KEEPING, *options, noticed=3000)


KINDS = {"cluster": cluster, "sentinels": sentinels, "careful sentinels": careful_sentinels}


@pytest.fixture(params=["cluster", "sentinels"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Topology]:
    """Three masters and three replicas, or a master and two replicas with three sentinels."""
    with KINDS[request.param](tmp_path) as servers:
        yield servers


@pytest.fixture
async def shop(servers: Topology, anyio_backend_name: str) -> AsyncIterator[Shop]:
    shop = Shop(servers, kind=QuartTrio if anyio_backend_name == "trio" else Quart)
    yield shop
    await shop.interface.close()
