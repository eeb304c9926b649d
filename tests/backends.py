"""The backends that the suites run on, each as the settings of an application.

A new one is a function here, a line in ``BACKENDS`` and, where it needs a server, a fixture in
``conftest.py`` that starts it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quart_session.config import SessionConfig
from quart_session.stores import load_store
from quart_session.stores.base import Store


def memory(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "memory"}


def sqlite(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "sqlite", "SESSION_SQLITE_PATH": str(folder / "sessions.sqlite3")}


def filesystem(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "filesystem", "SESSION_FILE_DIR": str(folder / "sessions")}


def redis(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "redis", "SESSION_URI": request.getfixturevalue("redis_server").url}


def redis_with_one_connection(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    settings = redis(request, folder)
    return {**settings, "SESSION_URI": settings["SESSION_URI"] + "?max_connections=1"}


def redis_cluster(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "redis", "SESSION_URI": request.getfixturevalue("redis_cluster").url}


def memcached(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    url = request.getfixturevalue("memcached_server").url
    return {"SESSION_TYPE": "memcached", "SESSION_URI": url}


def memcached_with_one_connection(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    settings = memcached(request, folder)
    return {**settings, "SESSION_URI": settings["SESSION_URI"] + "?max_connections=1"}


def mongodb(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return {"SESSION_TYPE": "mongodb", "SESSION_URI": request.getfixturevalue("mongodb_server").uri}


def mongodb_with_one_connection(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    settings = mongodb(request, folder)
    return {**settings, "SESSION_URI": settings["SESSION_URI"] + "?maxPoolSize=1"}


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], dict[str, Any]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "filesystem": filesystem,
    "redis": redis,
    "redis-cluster": redis_cluster,
    "memcached": memcached,
    "mongodb": mongodb,
}

BETWEEN_PROCESSES = [name for name in BACKENDS if name != "memory"]
"""Those that several processes can use together. Their settings can be written as JSON."""

UNDER_LOAD = [name for name in BETWEEN_PROCESSES if name not in ("redis-cluster", "mongodb")]
"""Those that are loaded for a while; a cluster would be Redis once more, and what stands in for
MongoDB takes a millisecond for each command, one after the other."""

ONE_CONNECTION = {
    **BACKENDS,
    "redis": redis_with_one_connection,
    "memcached": memcached_with_one_connection,
    "mongodb": mongodb_with_one_connection,
}
"""With a client that has one connection, where it has any: what one caller leaves in it, the next
one gets."""

KEEPING = [name for name in BACKENDS if name != "memcached"]
"""Those that drop no record early, so that they can tell which sessions a user has."""

TRIO = ["memory", "sqlite", "filesystem", "redis"]
"""Those that run under Trio, too."""


def make_store(settings: dict[str, Any], timeout: float, trio: bool = False) -> Store:
    """The store that an application with *settings* has.

    :param timeout: seconds, in place of ``SESSION_TIMEOUT``.
    :param trio: whether it runs under Trio.
    """
    settings = {**settings, "SESSION_TIMEOUT": timeout}
    return load_store(SessionConfig.from_mapping(settings, trio=trio))
