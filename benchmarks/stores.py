"""Measure what a call costs on each store: ``python benchmarks/stores.py``.

The stores take turns, so that whatever else the machine does hits all of them, and of each the best
round counts. It starts the servers itself; they must be installed (``sh .ci/servers``). With
``--write`` the rows replace those in the table of ``docs/stores.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from mongodb_server import mongodb_server  # noqa: E402
from pages import replace_rows  # noqa: E402
from redis_topologies import redis_cluster  # noqa: E402
from servers import memcached_server, redis_server  # noqa: E402

from quart_session.config import SessionConfig  # noqa: E402
from quart_session.stores import load_store  # noqa: E402
from quart_session.stores.base import Conflict, Store  # noqa: E402
from quart_session.testing import gather  # noqa: E402

CALLS = 100
AT_ONCE = 64
DATA = os.urandom(150).hex().encode()


def settings(servers: ExitStack, folder: Path) -> dict[str, dict[str, Any]]:
    redis = servers.enter_context(redis_server(_made(folder / "redis")))
    cluster = servers.enter_context(redis_cluster(_made(folder / "cluster")))
    memcached = servers.enter_context(memcached_server())
    mongodb = servers.enter_context(mongodb_server(_made(folder / "mongodb")))
    return {
        "sqlite": {"SESSION_TYPE": "sqlite", "SESSION_SQLITE_PATH": str(folder / "s.sqlite3")},
        "redis": {"SESSION_TYPE": "redis", "SESSION_URI": redis.url},
        "cluster": {"SESSION_TYPE": "redis", "SESSION_URI": cluster.url},
        "memcached": {"SESSION_TYPE": "memcached", "SESSION_URI": memcached.url},
        "mongodb": {"SESSION_TYPE": "mongodb", "SESSION_URI": mongodb.uri},
        "filesystem": {"SESSION_TYPE": "filesystem", "SESSION_FILE_DIR": str(folder / "sessions")},
        "memory": {"SESSION_TYPE": "memory"},
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Costs:
    """What calls of one store cost: the best of all rounds, in µs a call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.best: dict[str, float] = {}

    def note(self, name: str, seconds: float, cpu: float, calls: int) -> None:
        for what, passed in ((name, seconds), (f"{name}, CPU", cpu)):
            cost = passed / calls * 1e6
            self.best[what] = min(cost, self.best.get(what, cost))

    async def round(self) -> None:
        """What a request does: read, and write what was read; and many that read at once."""
        store, key = self.store, f"bench:{uuid4().hex}"
        await store.set(key, DATA, 600)
        reading, writing = Stopwatch(), Stopwatch()
        for number in range(CALLS):
            with reading:
                record = await store.get(key)
            assert record is not None
            with writing:
                answer = await store.set(key, DATA + b"%d" % number, 600, record.version)
            assert not isinstance(answer, Conflict)
        self.note("get", reading.seconds, reading.cpu, CALLS)
        self.note("conditional set", writing.seconds, writing.cpu, CALLS)
        together = Stopwatch()
        with together:
            await gather([partial(store.get, key)] * AT_ONCE)
        self.note(f"{AT_ONCE} gets at once, each", together.seconds, together.cpu, AT_ONCE)
        await store.delete(key)


class Stopwatch:
    """Adds up the time that its blocks take, by the wall and by this process's processor."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since[0]
        self.cpu += time.process_time() - self._since[1]


def rows(costs: dict[str, Costs]) -> list[str]:
    """As in the page: a column for each store, that of Redis with a Cluster."""
    cluster = costs.pop("cluster")
    lines = []
    for what, cost in cluster.best.items():
        cells = {name: f"{one.best[what]:.0f}" for name, one in costs.items()}
        cells["redis"] += f"; Cluster {cost:.0f}"
        lines.append(f"| {what} | " + " | ".join(cells.values()) + " |")
    return lines


async def measure(rounds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        costs = {
            name: Costs(load_store(SessionConfig.from_mapping({**one, "SESSION_TIMEOUT": 30})))
            for name, one in settings(servers, Path(folder)).items()
        }
        for _ in range(rounds):
            for cost in costs.values():
                await cost.round()
        for cost in costs.values():
            await cost.store.close()
    return rows(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="replace the rows in docs/stores.md")
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.rounds))
    print(*measured, sep="\n")
    if arguments.write:
        replace_rows(ROOT / "docs/stores.md", measured)


if __name__ == "__main__":
    main()
