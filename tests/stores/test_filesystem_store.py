"""The filesystem store beyond the contract: the files, their sharing and their failures."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
import subprocesses
from clock import clock
from subprocesses import AS_NOBODY, killed, output

from quart_session.errors import StoreError
from quart_session.stores.base import ABSENT, digest
from quart_session.stores.filesystem import FilesystemStore
from quart_session.stores.filesystem_folder import FOLDERS, LONGEST
from quart_session.testing import found, gather

pytestmark = pytest.mark.anyio
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and processes")

# Seconds, in tests that are not about time-outs; the machine may have other work.
SLOW = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(folder: Path) -> FilesystemStore:
    return FilesystemStore(folder, threshold=0, timeout=SLOW)


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start *program* in a process of its own, with these names at hand."""
    prelude = (
        "import os, signal, sys, time, anyio\n"
        "from pathlib import Path\n"
        "from quart_session.errors import StoreError\n"
        "from quart_session.stores.filesystem import FilesystemStore\n"
        "from quart_session.testing import increment, gather\n"
    )
    return subprocesses.python(prelude + program, *arguments)


def files(folder: Path) -> list[Path]:
    """All but what Windows locks."""
    return [path for path in folder.glob("*/*") if path.name != "lock"]


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock of the record at *path* in another process."""
    program = """
import fcntl
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
    with killed(python(program, path.parent)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield


class TestFiles:
    async def test_a_file_is_the_plain_data_and_its_time_the_deadline(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b'{"plain": 1}', 60)
        [path] = files(folder)
        assert path.read_bytes() == b'{"plain": 1}'
        assert abs(path.stat().st_mtime - (time.time() + 60)) < 5
        await store.touch("key", 600)
        assert files(folder) == [path]
        assert abs(path.stat().st_mtime - (time.time() + 600)) < 5

    @pytest.mark.parametrize("key", ["secret", "../../secret", "/secret", "secret\0", "\udc80"])
    async def test_no_key_is_a_name_or_leads_out_of_the_folder(
        self, store: FilesystemStore, folder: Path, key: str
    ) -> None:
        await store.set(key, b"data", 60)
        [path] = files(folder)
        assert set(path.name) <= set("0123456789abcdef")
        assert path.name[:2] == path.parent.name
        assert list(folder.parent.iterdir()) == [folder]
        assert found(await store.get(key)).data == b"data"

    async def test_nothing_is_made_before_the_first_use(self, folder: Path) -> None:
        FilesystemStore(folder / "deeper")
        assert list(folder.parent.iterdir()) == []

    async def test_a_read_makes_no_file(self, store: FilesystemStore, folder: Path) -> None:
        await store.open()
        assert await store.get("key") is None
        assert files(folder) == []

    @not_on_windows
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
    @pytest.mark.parametrize(("mode", "folders"), [(0o600, 0o700), (0o640, 0o750)], ids=oct)
    async def test_modes_are_as_they_were_asked_for_whatever_the_umask(
        self, folder: Path, umask: int, mode: int, folders: int
    ) -> None:
        store = FilesystemStore(folder, mode=mode, timeout=SLOW)
        before = os.umask(umask)
        try:
            await store.set("key", b"data", 60)
            await store.set("key", b"data", 60)
        finally:
            os.umask(before)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
        [path] = files(folder)
        assert modes == {path.parent: folders, path: mode}
        assert stat.S_IMODE(folder.stat().st_mode) == folders

    async def test_a_life_without_end_has_a_date_that_every_file_system_knows(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"data", 1e300)
        [path] = files(folder)
        assert abs(path.stat().st_mtime - time.time() - LONGEST) < 5
        assert path.stat().st_mtime < 2**63 / 1e9  # nanoseconds

    async def test_a_folder_that_was_removed_is_made_again(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"data", 60)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()
        assert await store.get("key") is None
        await store.set("key", b"new", 60)
        assert found(await store.get("key")).data == b"new"


class TestExpiry:
    async def test_writes_remove_what_has_expired_and_nothing_else(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await gather(partial(store.set, f"dead {n}", b"", 0.01) for n in range(300))
        await gather(partial(store.set, f"alive {n}", b"", 60) for n in range(300))
        await anyio.sleep(0.05)
        for _ in range(3 * len(FOLDERS)):
            await store.set("alive 0", b"", 60)
        assert len(files(folder)) == 300
        for n in range(300):
            assert await store.get(f"alive {n}") is not None

    async def test_a_file_that_was_written_anew_meanwhile_stays(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"", 0.001)
        await anyio.sleep(0.01)
        [path] = files(folder)
        await store.set("key", b"new", 60)
        assert store._folder._remove_expired([path]) == 0
        assert await store.get("key") is not None

    async def test_few_files_are_left_alone_by_writes(self, folder: Path) -> None:
        store = FilesystemStore(folder, threshold=100 * len(FOLDERS), timeout=SLOW)
        await gather(partial(store.set, f"{n}", b"", 0.001) for n in range(50))
        await anyio.sleep(0.01)
        for _ in range(2 * len(FOLDERS)):
            await store.set("alive", b"", 60)
        assert len(files(folder)) == 51

    async def test_purging_counts_what_it_removes(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await gather(partial(store.set, f"dead {n}", b"", 60) for n in range(100))
        for path in files(folder):
            os.utime(path, (1, 1))
        await FilesystemStore(folder, threshold=1_000_000, timeout=SLOW).set("alive", b"", 60)
        assert await store.purge_expired() == 100
        assert len(files(folder)) == 1
        assert await store.get("alive") is not None

    async def test_purging_leaves_the_files_of_others(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"data", 60)
        [path] = files(folder)
        other = path.with_name("notes.txt")
        other.write_text("mine")
        os.utime(other, (1, 1))
        assert await store.purge_expired() == 0
        assert other.exists()


class TestSharing:
    async def test_two_stores_share_it(self, store: FilesystemStore, folder: Path) -> None:
        other = FilesystemStore(folder, timeout=SLOW)
        await store.set("key", b"1", 60)
        assert await other.set("key", b"2", 60, digest(b"1")) == digest(b"2")
        assert found(await store.get("key")).data == b"2"

    async def test_nothing_piles_up(self, store: FilesystemStore, folder: Path) -> None:
        await gather(partial(store.set, f"{n}", b"", 60) for n in range(300))
        await gather(partial(store.delete, f"{n}") for n in range(300))
        assert files(folder) == []
        assert 100 < len(list(folder.iterdir())) <= len(FOLDERS)

    @not_on_windows
    async def test_a_write_waits_for_another_process_and_the_loop_goes_on(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"old", 60)
        [path] = files(folder)
        async with anyio.create_task_group() as tasks:
            with lock(path):
                tasks.start_soon(store.set, "key", b"new", 60)
                for _ in range(20):
                    await anyio.sleep(0.01)
                    assert found(await store.get("key")).data == b"old"
        assert found(await store.get("key")).data == b"new"

    @not_on_windows
    async def test_a_lock_that_nobody_gives_back_is_an_error_in_time(self, folder: Path) -> None:
        store = FilesystemStore(folder, timeout=0.2)
        await store.set("key", b"old", 60)
        [path] = files(folder)

        async def fails() -> None:
            with pytest.raises(StoreError, match=r"no turn within 0.2 s"):
                await store.set("key", b"new", 60)

        with lock(path):
            started = time.monotonic()
            await fails()
            assert 0.2 <= time.monotonic() - started < 1.2
            started = clock()
            await gather([fails] * 20)
            assert clock() - started < 1.7
            assert found(await store.get("key")).data == b"old"
        assert await store.set("key", b"new", 60) == digest(b"new")

    async def test_processes_lose_no_update(self, store: FilesystemStore, folder: Path) -> None:
        await store.set("counter", b"0", 60)
        program = """
async def main():
    store = FilesystemStore(sys.argv[1], timeout=10)
    async def work(n):
        for turn in range(15):
            await increment(store, "counter")
            await store.set(f"{os.getpid()} {n}", b"%d" % turn, 60)
            assert (await store.get(f"{os.getpid()} {n}")).data == b"%d" % turn
    await gather((lambda n=n: work(n)) for n in range(5))
anyio.run(main)
"""
        output(*[python(program, folder) for _ in range(4)])
        assert found(await store.get("counter")).data == b"%d" % (4 * 5 * 15)

    @not_on_windows
    def test_it_may_be_used_before_and_after_a_fork(self, folder: Path) -> None:
        program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # about threads of the parent
store = FilesystemStore(sys.argv[1], timeout=10)
anyio.run(store.set, "counter", b"0", 60)
children = []
for n in range(4):
    if not (child := os.fork()):
        for turn in range(20):
            anyio.run(increment, store, "counter")
        os._exit(0)
    children.append(child)
for turn in range(20):
    anyio.run(increment, store, "counter")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert anyio.run(store.get, "counter").data == b"100"
"""
        output(python(program, folder))

    @not_on_windows
    async def test_a_child_does_not_keep_the_lock_of_a_parent_that_died(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"old", 60)
        [path] = files(folder)
        program = """
store = FilesystemStore(sys.argv[1], timeout=10)
with store._folder.locked(Path(sys.argv[2])):
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""
        with killed(python(program, folder, path.parent)) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            try:
                assert process.wait(10) == -signal.SIGKILL
                assert await store.set("key", b"new", 60) == digest(b"new")
            finally:
                os.kill(child, signal.SIGKILL)


@not_on_windows
class TestCrash:
    async def test_a_killed_writer_does_no_harm(self, store: FilesystemStore, folder: Path) -> None:
        program = """
async def main():
    store = FilesystemStore(sys.argv[1], timeout=10)
    n = 0
    while True:
        n += 1
        await store.set("key", b"%05d" % n * 20_000, 60)
        if n == 1:
            print("ready", flush=True)
anyio.run(main)
"""
        for _ in range(5):
            with killed(python(program, folder)) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                await anyio.sleep(0.1)
            record = found(await store.get("key"))
            assert record.data == record.data[:5] * 20_000
            assert await store.set("key", b"next", 60, record.version) == digest(b"next")

    async def test_a_writer_that_dies_at_any_step_leaves_the_old_or_the_new(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        program = """
step = 0
def watch(event, arguments):
    global step
    if event in ("open", "os.chmod", "os.utime", "os.rename", "os.remove") and watching:
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        step += 1
watching = False
store = FilesystemStore(sys.argv[1], timeout=10)
sys.addaudithook(watch)
async def main():
    global watching
    record = await store.get("key")
    watching = True
    await store.set("key", b"new" * 100_000, 60, record.version)
    watching = False
anyio.run(main)
"""
        old, new = b"old" * 100_000, b"new" * 100_000
        ends = []
        for step in range(20):
            await store.set("key", old, 60)
            with killed(python(program, folder, step)) as process:
                text, _ = process.communicate(timeout=60)
            assert process.returncode in (0, -signal.SIGKILL), text
            data = found(await store.get("key")).data
            ends.append((process.returncode, data == new, len(files(folder)) - 1))
            assert data in (old, new)
            if process.returncode == 0:
                break
            # The next one finds no obstacle, and what the dead one left goes away.
            assert await store.set("key", b"next", 60, digest(data)) == digest(b"next")
            assert len(files(folder)) == 1
        # Lock, read, write, chmod, utime and rename are steps of their own; two leave a file.
        assert len(ends) >= 6
        assert ends[-1] == (0, True, 0)
        assert sum(left for *_, left in ends) >= 2

    async def test_what_a_dead_writer_left_is_removed_with_the_expired(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"data", 60)
        [path] = files(folder)
        path.with_name("0" * 64 + ".new").write_bytes(b"half of somethi")
        assert await store.purge_expired() == 1
        assert files(folder) == [path]


class TestFailures:
    async def calls(self, store: FilesystemStore) -> list[str]:
        """What each call says, given a key and data that nobody may see."""
        messages = []
        for call in (
            partial(store.get, "secret"),
            partial(store.set, "secret", b"private", 60),
            partial(store.set, "secret", b"private", 60, ABSENT),
            partial(store.set, "secret", b"private", 60, digest(b"old")),
            partial(store.delete, "secret", digest(b"old")),
            partial(store.touch, "secret", 60),
            partial(store.delete, "secret"),
        ):
            with pytest.raises(StoreError) as error:
                await call()
            messages.append(str(error.value))
            assert "secret" not in messages[-1]
            assert "private" not in messages[-1]
            assert store._folder.file("secret").name not in messages[-1]
        return messages

    async def test_a_file_in_place_of_the_folder_is_an_error_and_stays(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        folder.write_text("Dear diary")
        for message in await self.calls(store):
            assert str(folder) in message
            assert "Not a directory" in message
        assert folder.read_text() == "Dear diary"

    async def test_a_folder_in_place_of_a_record_is_an_error(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        store._folder.file("secret").mkdir(parents=True)
        with pytest.raises(StoreError):
            await store.get("secret")
        with pytest.raises(StoreError):
            await store.set("secret", b"data", 60)

    @not_on_windows
    async def test_a_symbolic_link_to_a_folder_will_do(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        (folder.parent / "shared").mkdir()
        folder.symlink_to("shared")
        await store.set("key", b"data", 60)
        assert found(await store.get("key")).data == b"data"

    @not_on_windows
    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702], ids=oct)
    async def test_a_folder_in_which_everybody_may_write_is_refused(
        self, store: FilesystemStore, folder: Path, mode: int
    ) -> None:
        folder.mkdir()
        folder.chmod(mode)
        for message in await self.calls(store):
            assert "chmod 700" in message
        assert list(folder.iterdir()) == []
        folder.chmod(0o700)
        await store.set("key", b"data", 60)

    @not_on_windows
    @pytest.mark.skipif("os.geteuid() != 0", reason="only root can give a folder away")
    def test_a_folder_of_another_user_is_refused(self) -> None:
        program = f"""
{AS_NOBODY}
async def main():
    try:
        await FilesystemStore(sys.argv[1]).get("key")
    except StoreError as error:
        print(error)
anyio.run(main)
"""
        with TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            os.chown(folder, 12345, 12345)
            message = output(python(program, folder))
        assert "belongs to another user (uid 12345)" in message
        assert "chown it to uid 65534" in message

    @not_on_windows
    def test_a_folder_that_is_not_writable_is_read_and_a_write_is_an_error(self) -> None:
        program = f"""
store = FilesystemStore(sys.argv[1], timeout=10)
anyio.run(store.set, "key", b"old", 60)
for path in [*Path(sys.argv[1]).rglob("*"), Path(sys.argv[1])]:
    os.chmod(path, 0o555 if path.is_dir() else 0o444)
{AS_NOBODY}
for call in (
    (store.set, "key", b"new", 60), (store.set, "other", b"new", 60), (store.delete, "key"),
    (store.touch, "key", 600),
):
    try:
        print(anyio.run(*call))
    except StoreError as error:
        print(error)
assert anyio.run(store.get, "key").data == b"old"
"""
        # Not in pytest's folder, which only its owner may enter.
        with TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            messages = output(python(program, Path(folder, "sessions"))).splitlines()
        assert len(messages) == 4
        for message in messages:
            assert message.endswith((": Permission denied", ": Operation not permitted"))

    @not_on_windows
    async def test_a_full_disk_is_an_error_and_the_old_record_stays(
        self, store: FilesystemStore, folder: Path
    ) -> None:
        await store.set("key", b"old", 60)
        program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
async def main():
    store = FilesystemStore(sys.argv[1], timeout=10)
    try:
        await store.set("key", bytes(300_000), 60)
    except StoreError as error:
        print(error)
    assert (await store.get("key")).data == b"old"
    assert len([path for path in Path(sys.argv[1]).glob("*/*") if path.name != "lock"]) == 1
    await store.set("key", b"small", 60)
anyio.run(main)
"""
        assert "File too large" in output(python(program, folder))
        assert found(await store.get("key")).data == b"small"
        assert len(files(folder)) == 1
