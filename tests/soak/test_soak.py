"""Many clients write the same sessions for a long time, and nothing is lost.

In ``make test`` each soak takes a moment. With ``SOAK=1`` those on Redis and SQLite make a million
operations together; ``SOAK_OPERATIONS`` and ``SOAK_SECONDS`` (for each of the eight) change that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backends import BACKENDS, BETWEEN_PROCESSES, UNDER_LOAD
from long_form import SOAK
from soaking import LIST, SHARED, Browser, make_app
from subprocesses import killed

from quart_session.testing import gather

pytestmark = pytest.mark.anyio

OPERATIONS = int(os.environ.get("SOAK_OPERATIONS", "1000000")) // 8 if SOAK else 10**9
SECONDS = float(os.environ.get("SOAK_SECONDS", "600")) if SOAK else 0.5
CLIENTS = 64
SESSIONS = 5000 if SOAK else 100
PROGRAM = Path(__file__).with_name("soaking.py")


@pytest.fixture
def config(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "INSTANCE_PATH": str(tmp_path),
        "SESSION_KEY_PREFIX": f"{uuid.uuid4().hex}:",
        "SESSION_TIMEOUT": 10,  # it is not about time-outs, and the machine may have other work
        **BACKENDS[backend](request, tmp_path),
    }


async def create(config: dict[str, Any], how_many: int) -> list[str]:
    """New sessions, by their ids."""
    app = make_app(config)
    browser = Browser(app)
    sids: list[str] = []

    async def one() -> None:
        session = await browser.open()
        session["began"] = True
        await browser.save(session)
        sids.append(session.sid)

    try:
        await gather([one] * how_many)
    finally:
        await app.session_interface.close()
    return sids


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def run(
    config: dict[str, Any], processes: int, sids: list[str], seconds: float
) -> list[dict[str, Any]]:
    """Let so many processes write the sessions at the same time; what each of them did."""
    running = [
        subprocess.Popen(
            [sys.executable, PROGRAM],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    with killed(*running):
        for number, process in enumerate(running):
            order = {
                "config": config,
                "process": number,
                "sids": sids,
                "clients": CLIENTS // processes,
                "operations": OPERATIONS // processes,
                "seconds": seconds,
            }
            tell(process, json.dumps(order))
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            tell(process, "go")
        reports = []
        for process in running:
            output, _ = process.communicate(timeout=seconds + 60)
            assert process.returncode == 0
            reports.append(json.loads(output))
    return reports


@pytest.mark.parametrize(
    ("backend", "sessions"),
    [(backend, 1) for backend in BETWEEN_PROCESSES]
    + [(backend, SESSIONS) for backend in UNDER_LOAD],
    ids={1: "one session", SESSIONS: "many sessions"}.get,
)
@pytest.mark.parametrize("processes", [1, 4], ids=["one process", "4 processes"])
async def test_no_update_is_lost(config, backend, processes, sessions, closed_later):
    sids = await create(config, sessions)
    reports = run(config, processes, sids, SECONDS if backend in UNDER_LOAD else min(SECONDS, 5))

    expected: list[Counter[str]] = [Counter() for _ in sids]
    for report in reports:
        for counter, counts in zip(expected, report["counts"], strict=True):
            counter.update(counts)
    operations = sum(counter.total() for counter in expected)
    refused = sum(report["refused"] for report in reports)
    seconds = max(report["seconds"] for report in reports)
    print(
        f"\n{backend}, {CLIENTS} clients in {processes} processes, "
        f"{sessions} sessions: {operations} saves in {seconds:.1f} s, {refused} refused"
    )
    assert operations > 0
    assert [wrong for report in reports for wrong in report["wrong"]] == []

    app = make_app(config)
    closed_later(app.session_interface)

    async def check(sid: str, counts: Counter[str]) -> None:
        found = await Browser(app, sid).open()
        shared = {key: found[key] for key in found if key.startswith("shared ")}
        own = {}
        for name, count in counts.items():
            own[f"count {name}"] = count
            own[f"list {name}"] = list(range(max(1, count - LIST + 1), count + 1))
        assert {key: found[key] for key in found if key not in shared} == {"began": True, **own}
        for key, value in shared.items():
            # Of such a key the last save wins; what it wrote is there as a whole.
            assert value["number"] <= counts[value["by"]]
            assert (value["number"] - 1) % SHARED == int(key.removeprefix("shared "))

    await gather(partial(check, *pair) for pair in zip(sids, expected, strict=True))
