"""Fixtures of the whole suite."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator

import pytest
from backends import BACKENDS, TRIO
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from long_form import SOAK
from mongodb_server import MongoDBServer
from mongodb_server import mongodb_server as run_mongodb_server
from redis_topologies import Cluster, Watched
from redis_topologies import redis_behind_sentinels as run_redis_behind_sentinels
from redis_topologies import redis_cluster as run_redis_cluster
from servers import MemcachedServer, RedisServer
from servers import memcached_server as run_memcached_server
from servers import redis_server as run_redis_server

pytest_plugins = ["closing", "secrecy"]

# The machine may have other work, so how long an example takes is no failure.
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")

# Who is told to end, by a time limit for example, stops its servers first, as after Ctrl-C.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for all tests. They use keys of their own and leave the server running."""
    with run_redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters and three replicas for all tests, which leave them as they are."""
    with run_redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_behind_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A master with a replica and three sentinels for all tests, which leave them as they are."""
    folder = tmp_path_factory.mktemp("redis-sentinel")
    with run_redis_behind_sentinels(folder, replicas=1) as watched:
        yield watched


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    """A memcached for all tests, like ``redis_server``."""
    with run_memcached_server() as server:
        yield server


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoDBServer]:
    """A server of MongoDB's protocol for all tests. They use keys of their own."""
    with run_mongodb_server(tmp_path_factory.mktemp("mongodb")) as server:
        yield server


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Async tests run under asyncio unless they say more."""
    return "asyncio"


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether there is time for the long form."""
    return SOAK


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves behind is thrown away as a part of it."""
    yield
    gc.collect()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Ctrl-C in a task group ends the run, not just the test."""
    try:
        return (yield)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot be: a backend that needs asyncio, under Trio."""
    without_trio = BACKENDS.keys() - TRIO

    def impossible(item: pytest.Item) -> bool:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return given.get("anyio_backend") == "trio" and given.get("store") in without_trio

    config.hook.pytest_deselected(items=[item for item in items if impossible(item)])
    items[:] = [item for item in items if not impossible(item)]
