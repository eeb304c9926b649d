"""Measure the SQLite store: ``python benchmarks/sqlite.py``.

First what a call costs with few sessions in the file and with many; the two files take turns, so
that whatever else the machine does hits both. Then how long calls take when several do them at
once, in one process and in more, half of the calls being conditional writes; and for how long such
a process ran nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from quart_session.stores.base import ABSENT, Conflict, Record
from quart_session.stores.sqlite import SQLiteStore

LIFE = 31 * 86400.0
DATA = [b'{"text":"%s"}' % random.randbytes(250).hex().encode() for _ in range(100)]


def key(number: int) -> str:
    return "session:" + hashlib.sha256(b"%d" % number).hexdigest()


async def fill(store: SQLiteStore, sessions: int) -> None:
    for number in range(sessions):
        await store.set(key(number), random.choice(DATA), LIFE)


async def found(store: SQLiteStore, name: str) -> Record:
    record = await store.get(name)
    assert record is not None
    return record


def sessions_in(path: Path, sessions: int) -> SQLiteStore:
    """A store whose file has so many; it is kept, since many take minutes."""
    new = path.with_suffix(".new")
    if not path.exists():
        store = SQLiteStore(new, timeout=10)
        asyncio.run(fill(store, sessions))
        asyncio.run(store.close())
        new.rename(path)
    return SQLiteStore(path, timeout=10)


async def cost(stores: dict[int, SQLiteStore], rounds: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of each call, by what it does and by the number of sessions."""
    times: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    created: list[tuple[SQLiteStore, str]] = []
    for _ in range(rounds):
        for sessions, store in stores.items():
            for _ in range(20):
                name, other = (key(random.randrange(sessions)) for _ in range(2))
                new = key(random.getrandbits(60) + 10**9)
                data = random.choice(DATA)
                version = (await found(store, other)).version
                for what, call in {
                    "get": partial(store.get, name),
                    "conditional set": partial(store.set, other, data, LIFE, version),
                    "touch": partial(store.touch, name, LIFE),
                    "set of a new session": partial(store.set, new, data, LIFE, ABSENT),
                }.items():
                    start = time.perf_counter()
                    await call()
                    times[what][sessions].append(time.perf_counter() - start)
                created.append((store, new))
    for store, name in created:
        await store.delete(name)
    for store in stores.values():
        await store.close()
    return times


async def cold(path: Path, sessions: int, reads: int) -> list[float]:
    """Seconds of reads of a file of which the operating system has nothing in its memory."""
    store = SQLiteStore(path, timeout=10)
    await store.open()
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    times = []
    for _ in range(reads):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        await store.get(key(random.randrange(sessions)))
        times.append(time.perf_counter() - start)
    os.close(descriptor)
    await store.close()
    return times


async def work(path: str, sessions: int, callers: int, seconds: float) -> dict[str, list[float]]:
    """What one process does: each caller reads a session and writes it every other time."""
    store = SQLiteStore(path, timeout=10)
    await store.open()
    times: dict[str, list[float]] = {"get": [], "set": [], "held": []}
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        turn = number
        while time.perf_counter() < end:
            name = key(random.randrange(sessions))
            start = time.perf_counter()
            record = await found(store, name)
            read = time.perf_counter()
            times["get"].append(read - start)
            if (turn := turn + 1) % 2:
                data = random.choice(DATA)
                while isinstance(r := await store.set(name, data, LIFE, record.version), Conflict):
                    assert r.record is not None
                    record = r.record
                times["set"].append(time.perf_counter() - read)
            await asyncio.sleep(0)

    async def watch() -> None:
        """Comes to its turn once in each round of the event loop."""
        before = time.perf_counter()
        while before < end:
            await asyncio.sleep(0)
            now = time.perf_counter()
            times["held"].append(now - before)
            before = now

    await asyncio.gather(watch(), *map(caller, range(callers)))
    await store.close()
    return times


def process(path: str, sessions: int, callers: int, seconds: float) -> dict[str, list[float]]:
    return asyncio.run(work(path, sessions, callers, seconds))


def percentile(times: Iterable[float], part: float) -> str:
    ordered = sorted(times)
    return f"{ordered[round((len(ordered) - 1) * part)] * 1e6:,.0f}"


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are kept for the next time")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(dir=Path.cwd()))

    paths = {n: folder / f"{n}.sqlite3" for n in (options.few, options.many)}
    times = asyncio.run(cost({n: sessions_in(p, n) for n, p in paths.items()}, options.rounds))
    row("µs, median", f"{options.few:,} sessions", f"{options.many:,} sessions", "times")
    row(*["-"] * 4)
    for what, by_number in times.items():
        few, many = (statistics.median(by_number[n]) * 1e6 for n in paths)
        row(what, f"{few:.1f}", f"{many:.1f}", f"{many / few:.2f}")
    reads = asyncio.run(cold(paths[options.many], options.many, 200))
    row("get, nothing in memory", "", percentile(reads, 0.5), "")

    print("\nIn µs; `held` is for how long the event loop ran nothing else:\n")
    row("processes", "callers", "get p50", "p99", "set p50", "p99", "held p99", "max", "calls/s")
    row(*["-"] * 9)
    for processes in (1, 4):
        for callers in (1, 16, 64):
            arguments = (str(paths[options.few]), options.few, callers, options.seconds)
            with get_context("spawn").Pool(processes) as pool:
                answers = pool.starmap(process, [arguments] * processes)
            get, set_, held = (
                [t for times in answers for t in times[what]] for what in ("get", "set", "held")
            )
            cells = [percentile(t, part) for t in (get, set_, held) for part in (0.5, 0.99, 1)]
            rate = f"{(len(get) + len(set_)) / options.seconds:,.0f}"
            row(processes, callers, *cells[:2], *cells[3:5], *cells[7:], rate)
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
