"""The SQLite store beyond the contract: the file, its sharing and its failures."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
import subprocesses
from clock import clock
from closing import Closer
from subprocesses import AS_NOBODY, killed, output

from quart_session.errors import ConfigError, StoreError
from quart_session.stores import sqlite_file
from quart_session.stores.base import ABSENT, Conflict, Record, digest
from quart_session.stores.sqlite import SQLiteStore
from quart_session.testing import found, gather, run_and_cancel

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and processes")

# Seconds, in tests that are not about time-outs; the machine may have other work.
SLOW = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, timeout=SLOW)
    yield store
    await store.close()


@contextmanager
def sql(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        yield db


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start *program* in a process of its own, with these names at hand."""
    prelude = (
        "import os, sys, time, anyio\n"
        "from quart_session.errors import StoreError\n"
        "from quart_session.stores.sqlite import SQLiteStore\n"
        "from quart_session.testing import increment, gather\n"
    )
    return subprocesses.python(prelude + program, *arguments)


class TestFile:
    async def test_it_holds_the_plain_data(self, store: SQLiteStore, path: Path) -> None:
        await store.set("key", b'{"plain": 1}', 60)
        with sql(path) as db:
            rows = db.execute("SELECT key, data, expires FROM quart_sessions").fetchall()
        assert [row[:2] for row in rows] == [("key", b'{"plain": 1}')]
        assert abs(rows[0][2] - (time.time() + 60)) < 5

    async def test_data_edited_as_text_is_read_as_bytes(
        self, store: SQLiteStore, path: Path
    ) -> None:
        await store.set("key", b"data", 60)
        with sql(path) as db:
            db.execute("UPDATE quart_sessions SET data = 'ž'")
        record = await store.get("key")
        assert record is not None
        assert record[:2] == ("ž".encode(), digest("ž".encode()))

    async def test_nothing_is_made_before_the_first_use(self, path: Path) -> None:
        SQLiteStore(path.parent / "folder" / "file")
        assert list(path.parent.iterdir()) == []

    @not_on_windows
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
    async def test_only_the_owner_can_read_it_whatever_the_umask(
        self, path: Path, umask: int, closed_later: Closer
    ) -> None:
        store = closed_later(SQLiteStore(path, timeout=SLOW))
        before = os.umask(umask)
        try:
            await store.set("key", b"data", 60)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        finally:
            os.umask(before)
        assert modes == dict.fromkeys([path.name, path.name + "-wal", path.name + "-shm"], 0o600)

    async def test_one_thread_opens_it_for_all_who_ask_at_once(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Thousands would time out if each of them waited for a thread of its own."""
        opened, open_file = [], store._file.open

        def count() -> None:
            opened.append(None)
            open_file()

        monkeypatch.setattr(store._file, "open", count)
        await gather([partial(store.get, "key")] * 1000)
        assert len(opened) == 1

    async def test_its_folder_is_made(self, tmp_path: Path, closed_later: Closer) -> None:
        store = closed_later(SQLiteStore(tmp_path / "one" / "two" / "file", timeout=SLOW))
        await store.set("key", b"data", 60)
        assert (tmp_path / "one" / "two" / "file").is_file()

    async def test_the_memory_store_is_recommended_for_memory(self) -> None:
        with pytest.raises(ConfigError, match="SESSION_TYPE = 'memory'"):
            SQLiteStore(":memory:")

    async def test_two_stores_share_it(
        self, store: SQLiteStore, path: Path, closed_later: Closer
    ) -> None:
        other = closed_later(SQLiteStore(path, timeout=SLOW))
        version = await store.set("key", b"1", 60)
        assert isinstance(version, bytes)
        assert await other.set("key", b"2", 60, version) == digest(b"2")
        record = await store.get("key")
        assert record is not None
        assert record.data == b"2"

    async def test_writes_remove_expired_records(self, store: SQLiteStore, path: Path) -> None:
        await gather(partial(store.set, f"dead {n}", b"", 0.01) for n in range(20))
        await anyio.sleep(0.05)
        for n in range(10):
            await store.set(f"alive {n}", b"", 60)
        with sql(path) as db:
            keys = {key for (key,) in db.execute("SELECT key FROM quart_sessions")}
        assert keys == {f"alive {n}" for n in range(10)}

    async def test_purging_counts_what_it_removes(self, store: SQLiteStore) -> None:
        await store.close()
        await store.set("alive", b"", 60)
        with sql(store.path) as db:
            db.executemany(
                "INSERT INTO quart_sessions (key, data, expires) VALUES (?, x'', 1)",
                [(f"dead {n}",) for n in range(2500)],
            )
        assert await store.purge_expired() == 2500
        assert await store.get("alive") is not None

    async def test_it_stops_growing(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each write comes a second after the one before, and what it writes lives for 100."""
        now = time.time()
        monkeypatch.setattr("quart_session.stores.sqlite.time.time", lambda: now)
        for n in range(3000):
            now += 1
            await store.set(f"key {n}", bytes(5000), 100)
        with sql(path) as db:
            assert db.execute("SELECT count(*) FROM quart_sessions").fetchone() == (100,)
        await store.close()
        assert 100 * 5000 < path.stat().st_size < 2 * 100 * 5000

    async def test_one_that_many_use_stops_growing(self, store: SQLiteStore, path: Path) -> None:
        """Its log begins anew although somebody always writes."""
        await store.set("key", b"data", 60)
        program = """
async def main():
    store = SQLiteStore(sys.argv[1], timeout=10)
    async def work(n):
        for turn in range(400):
            await store.set(f"{os.getpid()} {n}", os.urandom(5000), 60)
            await anyio.sleep(0)
    await gather((lambda n=n: work(n)) for n in range(4))
    await store.close()
anyio.run(main)
"""
        output(*[python(program, path) for _ in range(4)])
        assert path.stat().st_size < 4_000_000
        assert Path(f"{path}-wal").stat().st_size < 15_000 * 4096

    @both
    async def test_writers_wait_for_a_disk_that_does_not_keep_up(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The event loop does not; and the log does not grow without end."""
        done = 0
        copied = threading.Event()
        monkeypatch.setattr(sqlite_file, "LOG", 50_000)
        monkeypatch.setattr(sqlite_file, "_copy_log", lambda db: copied.wait(10))

        async def write() -> None:
            nonlocal done
            for n in range(50):
                await store.set(f"key {n}", bytes(1000), 60)
                done += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.sleep(0.2)
            assert done < 20
            copied.set()
        assert done == 50

    @both
    async def test_a_disk_that_hangs_costs_each_of_them_its_time_and_few_threads(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, closed_later: Closer
    ) -> None:
        goes_on, copied = threading.Event(), threading.Event()

        def hang(db: sqlite3.Connection) -> None:
            goes_on.wait(10)
            copied.set()

        monkeypatch.setattr(sqlite_file, "LOG", 50_000)
        monkeypatch.setattr(sqlite_file, "_copy_log", hang)
        store = closed_later(SQLiteStore(path, timeout=0.2))
        for n in range(10):
            await store.set(f"key {n}", bytes(1000), 60)
        before = threading.active_count()
        most = 0
        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(store.set, f"key {n}", bytes(1000), 60)
                await anyio.sleep(0.01)
                most = max(most, threading.active_count())
        assert not copied.is_set()
        assert most < before + 5
        goes_on.set()


class TestSharing:
    async def test_a_read_does_not_wait_for_a_writer(self, store: SQLiteStore, path: Path) -> None:
        await store.set("key", b"data", 60)
        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            started = clock()
            assert await store.get("key") is not None
            assert clock() - started < 0.9

    @pytest.mark.parametrize("operation", ["get", "set", "replace", "touch", "delete"])
    async def test_a_call_that_nobody_is_in_the_way_of_is_done_at_once(
        self, store: SQLiteStore, operation: str
    ) -> None:
        """Without a thread, and without a turn of the event loop."""
        await store.set("key", b"data", 60)
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "get": partial(store.get, "key"),
            "set": partial(store.set, "key", b"new", 60),
            "replace": partial(store.set, "key", b"new", 60, digest(b"data")),
            "touch": partial(store.touch, "key", 60),
            "delete": partial(store.delete, "key"),
        }
        assert await run_and_cancel(calls[operation](), 0)

    async def test_a_write_waits_for_a_writer_and_the_loop_goes_on(
        self, store: SQLiteStore, path: Path
    ) -> None:
        await store.set("key", b"data", 60)
        written = anyio.Event()

        async def write() -> None:
            await store.set("key", b"new", 60)
            written.set()

        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            started = clock()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                for _ in range(30):
                    await anyio.sleep(0.01)
                    assert not written.is_set()
                assert clock() - started < 0.9
                db.execute("COMMIT")
        record = await store.get("key")
        assert record is not None
        assert record.data == b"new"

    @both
    async def test_writes_that_wait_are_committed_together(
        self, store: SQLiteStore, path: Path
    ) -> None:
        version = await store.set("old", b"data", 60)
        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for n in range(40):
                    tasks.start_soon(store.set, f"key {n}", b"data", 60)
                tasks.start_soon(store.set, "old", b"new", 60, version)
                tasks.start_soon(store.touch, "key 7", 60)
                await anyio.sleep(0.05)
                statements: list[str] = []
                assert store._file._db is not None
                store._file._db.set_trace_callback(statements.append)
                db.execute("COMMIT")
        assert statements.count("COMMIT") == 1
        assert [found(await store.get(f"key {n}")).data for n in range(40)] == [b"data"] * 40
        assert found(await store.get("old")).data == b"new"

    @both
    async def test_each_of_them_depends_on_what_it_finds_itself(
        self, store: SQLiteStore, path: Path
    ) -> None:
        answers: list[object] = []

        async def create(n: int) -> None:
            answers.append(await store.set("key", b"%d" % n, 60, ABSENT))

        await store.open()
        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for n in range(10):
                    tasks.start_soon(create, n)
                await anyio.sleep(0.05)
                db.execute("COMMIT")
        [won] = [answer for answer in answers if isinstance(answer, bytes)]
        record = await store.get("key")
        assert found(record).version == won
        losers = [answer for answer in answers if isinstance(answer, Conflict)]
        assert [found(conflict.record)[:2] for conflict in losers] == [found(record)[:2]] * 9

    @both
    async def test_one_of_them_that_fails_fails_alone(self, store: SQLiteStore, path: Path) -> None:
        answers: dict[str, object] = {}

        async def write(key: str) -> None:
            try:
                answers[key] = await store.set(key, b"data", 60)
            except StoreError as error:
                answers[key] = error

        await store.open()
        with sql(path) as db:
            db.execute(
                "CREATE TRIGGER refusal BEFORE INSERT ON quart_sessions WHEN new.key = 'bad'"
                " BEGIN SELECT RAISE(ROLLBACK, 'refused'); END"
            )
            db.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for key in ("first", "second", "bad", "third"):
                    tasks.start_soon(write, key)
                await anyio.sleep(0.05)
                db.execute("COMMIT")
        assert "refused" in str(answers.pop("bad"))
        assert answers == dict.fromkeys(("first", "second", "third"), digest(b"data"))
        for key in answers:
            assert await store.get(key) is not None

    @both
    @pytest.mark.parametrize("leaving", [[0], [1], [0, 1], [3]], ids=str)
    async def test_those_of_them_whose_callers_are_cancelled_are_never_made(
        self, store: SQLiteStore, path: Path, leaving: list[int]
    ) -> None:
        scopes = [anyio.CancelScope() for _ in range(4)]

        async def write(n: int) -> None:
            with scopes[n]:
                await store.set(f"key {n}", b"data", 60)

        await store.open()
        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for n in range(4):
                    tasks.start_soon(write, n)
                await anyio.sleep(0.05)
                for n in leaving:
                    scopes[n].cancel()
                await anyio.sleep(0.05)
                db.execute("COMMIT")
        for n in range(4):
            assert (await store.get(f"key {n}") is None) == (n in leaving)
        # And the next one is done at once.
        assert await run_and_cancel(store.set("key", b"data", 60), 0)

    async def test_no_call_waits_for_another_thread_either(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Threads with event loops of their own use the same connection."""

        class Taken:
            def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
                assert not blocking
                return False

        await store.set("key", b"data", 60)
        async with anyio.create_task_group() as tasks:
            with monkeypatch.context() as patch:
                patch.setattr(store._file, "_turn", Taken())
                tasks.start_soon(store.set, "key", b"new", 60)
                with anyio.move_on_after(0.05):
                    await store.get("key")
                    pytest.fail("the connection was not free")
        assert found(await store.get("key")).data == b"new"

    async def test_a_writer_that_does_not_end_is_an_error_in_time(
        self, path: Path, closed_later: Closer
    ) -> None:
        store = closed_later(SQLiteStore(path, timeout=0.2))
        await store.set("key", b"old", 60)
        with sql(path) as db:
            db.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(StoreError, match="locked"):
                await store.set("key", b"new", 60)
            assert 0.2 <= time.monotonic() - started < 1.2
            # Those who could not even begin are told in time as well.
            started = clock()

            async def fails() -> None:
                with pytest.raises(StoreError):
                    await store.set("key", b"new", 60)

            await gather([fails] * 10)
            assert clock() - started < 1.7
        assert await store.set("key", b"new", 60) == digest(b"new")

    async def test_processes_lose_no_update_and_meet_no_lock(
        self, store: SQLiteStore, path: Path
    ) -> None:
        await store.set("counter", b"0", 60)
        program = """
async def main():
    store = SQLiteStore(sys.argv[1], timeout=10)
    async def work(n):
        for turn in range(15):
            await increment(store, "counter")
            await store.set(f"{os.getpid()} {n}", b"%d" % turn, 60)
            assert (await store.get(f"{os.getpid()} {n}")).data == b"%d" % turn
    await gather((lambda n=n: work(n)) for n in range(5))
    await store.close()
anyio.run(main)
"""
        output(*[python(program, path) for _ in range(4)])
        record = await store.get("counter")
        assert record is not None
        assert record.data == b"%d" % (4 * 5 * 15)

    async def test_a_new_file_can_be_made_by_many_processes_at_once(self, path: Path) -> None:
        program = """
async def main():
    store = SQLiteStore(sys.argv[1], timeout=10)
    await store.set(str(os.getpid()), b"data", 60)
    await store.close()
anyio.run(main)
"""
        output(*[python(program, path) for _ in range(6)])
        with sql(path) as db:
            assert db.execute("SELECT count(*) FROM quart_sessions").fetchone() == (6,)

    @not_on_windows
    async def test_a_killed_writer_does_no_harm(self, store: SQLiteStore, path: Path) -> None:
        program = """
async def main():
    store = SQLiteStore(sys.argv[1], timeout=10)
    n = 0
    while True:
        n += 1
        await store.set("key", b"%d" % n * 1000, 60)
        if n == 1:
            print("ready", flush=True)
anyio.run(main)
"""
        for _ in range(3):
            with killed(python(program, path)) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                await anyio.sleep(0.2)
            record = await store.get("key")
            assert record is not None
            assert len(record.data) % 1000 == 0
            assert await store.set("key", b"next", 60, record.version) == digest(b"next")
        with sql(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    @not_on_windows
    def test_it_may_be_used_before_and_after_a_fork(self, path: Path) -> None:
        program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # about threads of the parent
store = SQLiteStore(sys.argv[1], timeout=10)
anyio.run(store.set, "key", b"parent", 60)
assert store._file._db is not None
children = []
for n in range(4):
    if not (child := os.fork()):
        assert store._file._db is None
        assert anyio.run(store.get, "key").data == b"parent"
        for turn in range(20):
            anyio.run(store.set, f"child {n} {turn}", b"child", 60)
        os._exit(0)
    children.append(child)
for turn in range(20):
    anyio.run(store.set, f"parent {turn}", b"parent", 60)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
anyio.run(store.close)
"""
        output(python(program, path))
        with sql(path) as db:
            assert db.execute("SELECT count(*) FROM quart_sessions").fetchone() == (101,)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


class TestFailures:
    async def test_a_file_of_another_kind_is_an_error_and_stays_as_it_is(
        self, store: SQLiteStore, path: Path
    ) -> None:
        path.write_bytes(b"Dear diary, " * 1000)
        with pytest.raises(StoreError) as error:
            await store.get("key")
        assert str(path) in str(error.value)
        assert "not a database" in str(error.value)
        with pytest.raises(StoreError):
            await store.set("key", b"data", 60)
        assert path.read_bytes() == b"Dear diary, " * 1000

    async def test_a_damaged_file_is_an_error_and_its_repair_is_seen(
        self, store: SQLiteStore, path: Path
    ) -> None:
        for n in range(100):
            await store.set(f"key {n}", bytes(1000), 60)
        await store.close()
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        with pytest.raises(StoreError, match="malformed"):
            await store.get("key 50")
        path.write_bytes(whole)
        assert await store.get("key 50") is not None

    async def test_a_folder_in_its_place_is_an_error(self, store: SQLiteStore, path: Path) -> None:
        path.mkdir()
        with pytest.raises(StoreError, match=r"sessions\.sqlite3"):
            await store.get("key")

    async def test_a_file_in_place_of_its_folder_is_an_error(self, path: Path) -> None:
        path.write_bytes(b"")
        with pytest.raises(StoreError, match="sessions"):
            await SQLiteStore(path / "file").get("key")

    @not_on_windows
    def test_a_read_only_file_is_read_and_a_write_is_an_error(self) -> None:
        program = f"""
async def main(data):
    store = SQLiteStore(sys.argv[1], timeout=10)
    try:
        await store.set("key", data, 60)
    except StoreError as error:
        print(error)
    assert (await store.get("key")).data == b"data"
    await store.close()
anyio.run(main, b"data")
os.chmod(sys.argv[1], 0o444)
{AS_NOBODY}
anyio.run(main, b"new")
"""
        # Not in pytest's folder, which only its owner may enter.
        with TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            assert "readonly database" in output(python(program, Path(folder, "file")))

    @not_on_windows
    async def test_a_full_disk_is_an_error_and_the_old_record_stays(
        self, store: SQLiteStore, path: Path
    ) -> None:
        await store.set("key", b"data", 60)
        await store.close()
        program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    store = SQLiteStore(sys.argv[1], timeout=10)
    try:
        await store.set("key", bytes(300_000), 60)
    except StoreError as error:
        print(error)
    assert (await store.get("key")).data == b"data"
    await store.set("key", b"small", 60)
    await store.close()
anyio.run(main)
"""
        assert "SQLite file" in output(python(program, path))
        record = await store.get("key")
        assert record is not None
        assert record.data == b"small"

    async def test_a_full_file_is_an_error_and_loses_nothing(self, store: SQLiteStore) -> None:
        """SQLite's own limit on the size of a file fails like a full disk."""
        for n in range(20):
            await store.set(f"key {n}", bytes(1000), 60)
        assert store._file._db is not None
        store._file._db.execute("PRAGMA max_page_count = 15")
        with pytest.raises(StoreError, match="full"):
            await store.set("key 7", bytes(200_000), 60)
        for n in range(20):
            assert found(await store.get(f"key {n}")).data == bytes(1000)

    async def test_two_keys_never_share_a_record(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even if they had the same id, as two in a million have once in ten million years."""
        monkeypatch.setattr("quart_session.stores.sqlite._id", lambda key: 7)
        await store.set("one", b"1", 60)
        assert await store.get("two") is None
        assert await store.touch("two", 60) is False
        assert await store.delete("two") is None
        with pytest.raises(StoreError):
            await store.set("two", b"2", 60)
        assert found(await store.get("one")).data == b"1"
        await store.set("one", b"1", 0.05)
        await anyio.sleep(0.1)
        await store.set("two", b"2", 60)
        assert found(await store.get("two")).data == b"2"
        assert await store.get("one") is None

    async def test_no_error_shows_key_or_data(self, store: SQLiteStore, path: Path) -> None:
        await store.set("key", b"data", 60)
        with sql(path) as db:
            db.execute("DROP TABLE quart_sessions")
        for call in (
            partial(store.get, "secret"),
            partial(store.set, "secret", b"private", 60),
            partial(store.set, "secret", b"private", 60, b"version"),
            partial(store.delete, "secret"),
            partial(store.touch, "secret", 60),
        ):
            with sql(path) as db:
                db.execute("DROP TABLE IF EXISTS quart_sessions")
            try:
                answer: object = await call()
            except StoreError as error:
                assert "secret" not in str(error)
                assert "private" not in str(error)
            else:
                assert not isinstance(answer, Record)
