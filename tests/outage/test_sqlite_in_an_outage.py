"""Whole requests while the SQLite file is locked, read-only, full or gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from subprocesses import killed

from quart_session.testing import gather

pytestmark = pytest.mark.anyio
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and limits")

LOCKER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None) as db:
    db.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    sys.stdin.read()
"""

PROGRAM = Path(__file__).with_name("harmed_application.py")


@pytest.fixture
def site(new_site):
    return new_site(SESSION_TYPE="sqlite")


@pytest.fixture
def patient_site(new_site):
    """For what is not about time-outs; the machine may have other work."""
    return new_site(SESSION_TYPE="sqlite", SESSION_TIMEOUT=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], object]]:
    """Another process has the file for itself, until what is given is called."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with killed(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield partial(process.communicate, timeout=10)


def visit(folder: str, harm: str, *paths: str) -> dict[str, object]:
    """What an application answers after *harm*, in a process of its own."""
    process = subprocess.run(
        [sys.executable, PROGRAM, folder, harm, *paths],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    answer: dict[str, object] = json.loads(process.stdout.splitlines()[-1])
    return answer


class TestLocked:
    async def test_readers_are_served_and_writers_told_in_time(self, site, path):
        visitor = await site.new_visitor("ada")
        with locked(path) as unlock:
            site.waits.clear()
            assert (await site.look(visitor))["name"] == "ada"
            assert await site.status(visitor, "/plain") == 200
            assert await site.status(visitor, "/count") == 500
            site.in_time("locked")
            unlock()
        assert await site.status(visitor, "/count") == 200
        assert site.waits[0] < 1
        assert (await site.look(visitor))["count"] == 1

    async def test_a_crowd_of_writers_is_told_at_once(self, site, path):
        names = [f"visitor {n}" for n in range(64)]
        visitors = {name: await site.new_visitor(name) for name in names}

        async def fails(name: str) -> None:
            assert await site.status(visitors[name], "/count") == 500

        with locked(path) as unlock:
            site.waits.clear()
            await gather(partial(fails, name) for name in names)
            site.in_time("64 at once, locked")
            unlock()
        for name, visitor in visitors.items():
            assert await site.status(visitor, "/count") == 200
            seen = await site.look(visitor)
            assert (seen["name"], seen["count"]) == (name, 1)
        assert site.waits[0] < 1

    async def test_a_short_lock_is_waited_for(self, patient_site, path):
        site = patient_site
        visitor = await site.new_visitor("ada")
        with locked(path) as unlock:

            async def meanwhile() -> None:
                unlock()

            site.meanwhile = meanwhile
            response = await site.do(visitor, lambda session: session.update(count=7))
        assert response.status_code == 200
        assert (await site.look(visitor))["count"] == 7


class TestDisk:
    @not_on_windows
    def test_a_read_only_file_is_read_and_a_write_is_500(self):
        with TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            seen = visit(folder, "make_read_only", "/look", "/count", "/plain")
        assert seen == {"answers": [200, 500, 200], "look": {"available": True, "name": "ada"}}

    @not_on_windows
    def test_on_a_full_disk_a_write_is_500_and_the_old_record_stays(self, tmp_path):
        seen = visit(str(tmp_path), "fill_up", "/look", "/plain", "/count")
        assert seen["answers"] == [200, 200, 200]
        assert seen["look"] == {"available": True, "name": "ada", "count": 1}

    @not_on_windows
    def test_a_disk_that_takes_nothing_more_lets_reads_go_on(self, tmp_path):
        seen = visit(str(tmp_path), "leave_no_room", "/look", "/count", "/plain")
        assert seen == {"answers": [200, 500, 200], "look": {"available": True, "name": "ada"}}

    @not_on_windows
    async def test_a_deleted_file_is_made_anew(self, patient_site, path):
        """Its sessions are gone, for this process as for all others."""
        site = patient_site
        visitor = await site.new_visitor("ada")
        for file in path.parent.glob(path.name + "*"):
            file.unlink()
        assert "name" not in await site.look(visitor)
        visitor = await site.new_visitor("bob")
        assert path.exists()
        await site.interface.close()
        assert (await site.look(visitor))["name"] == "bob"
