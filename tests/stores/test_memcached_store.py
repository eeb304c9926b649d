"""The memcached store beyond the contract: what lies there, restarts, limits, outages."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from uuid import uuid4

import aiomcache
import anyio
import pytest
from clock import clock
from closing import Closer
from memcached_clients import emcache_client
from quart import Quart
from servers import MemcachedServer
from servers import memcached_server as run_memcached_server

from quart_session import Session
from quart_session.errors import ConfigError, SessionTooLarge, StoreError
from quart_session.sessions import MemcachedSessionInterface
from quart_session.stores.base import ABSENT, Conflict, Record, Version, digest
from quart_session.stores.memcached import MemcachedStore
from quart_session.testing import found, gather, written

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(memcached_server: MemcachedServer) -> AsyncIterator[MemcachedStore]:
    store = MemcachedStore(memcached_server.url, timeout=5)
    yield store
    await store.close()


@pytest.fixture
async def client(memcached_server: MemcachedServer) -> AsyncIterator[aiomcache.Client]:
    """Another program's connection to the server."""
    client = aiomcache.Client("127.0.0.1", memcached_server.port, pool_size=1)
    yield client
    await client.close()
    await asyncio.sleep(0)


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    """A server that a test may stop."""
    with run_memcached_server() as server:
        yield server


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


def calls(store: MemcachedStore, key: str) -> list[Callable[[], Awaitable[object]]]:
    """One call of each kind."""
    return [
        partial(store.get, key),
        partial(store.set, key, b"private", 60),
        partial(store.set, key, b"private", 60, ABSENT),
        partial(store.set, key, b"private", 60, b"version"),
        partial(store.touch, key, 60),
        partial(store.delete, key, b"version"),
        partial(store.delete, key),
    ]


async def count_commands(client: aiomcache.Client) -> dict[str, int]:
    """How many of each kind the server has carried out."""
    stats = await client.stats()
    return {
        name: int(stats[name.encode()] or 0)
        for name in ("cmd_get", "cmd_set", "cmd_touch", "delete_hits", "delete_misses")
    }


class TestWhatLiesThere:
    async def test_the_value_is_the_plain_data(
        self, store: MemcachedStore, client: aiomcache.Client, key: str
    ) -> None:
        await store.set(key, b'{"plain": 1}', 60)
        assert await client.get(key.encode()) == b'{"plain": 1}'
        await store.set(key, b'{"plain": 2}', 60, digest(b'{"plain": 1}'))
        assert await client.get(key.encode()) == b'{"plain": 2}'

    async def test_a_value_without_a_life_or_with_flags_is_a_record(
        self, store: MemcachedStore, memcached_server: MemcachedServer, key: str
    ) -> None:
        async with raw(memcached_server) as ask:
            request = b"set %b 4 0 4\r\ndata\r\n" % key.encode()
            assert await ask(request) == [b"STORED\r\n"]
        assert await store.get(key) == Record(b"data", digest(b"data"), None)

    @pytest.mark.parametrize("text", ["session:1f0c", "k" * 250, "žluť:1"], ids=len)
    async def test_a_key_that_memcached_takes_stays_as_it_is(
        self, store: MemcachedStore, client: aiomcache.Client, text: str
    ) -> None:
        await store.set(text, b"data", 60)
        assert await client.get(text.encode()) == b"data"
        await store.delete(text)

    async def test_a_key_that_looks_like_the_hash_of_another_is_another(
        self, store: MemcachedStore, client: aiomcache.Client, key: str
    ) -> None:
        from quart_session.stores.memcached import _wire_key

        odd = key + " "
        await store.set(odd, b"odd", 60)
        hashed = _wire_key(odd)
        assert await client.get(hashed) == b"odd"
        assert await store.get(hashed.decode()) is None

    @pytest.mark.parametrize("text", ["lone \ud800 surrogate", "\ud800", "ž" * 200])
    async def test_even_what_is_no_utf_8_is_a_key(self, store: MemcachedStore, text: str) -> None:
        await store.set(text, b"data", 60)
        assert found(await store.get(text)).data == b"data"
        await store.delete(text)


DAY = 86400


class TestLifetimes:
    @pytest.mark.parametrize(
        ("ttl", "seconds"),
        [(1e-9, 2), (0.4, 2), (1, 2), (1.5, 3), (30 * DAY - 1, 30 * DAY)],
    )
    async def test_a_life_is_seconds_rounded_up_and_one_more(
        self, store: MemcachedStore, client: aiomcache.Client, key: str, ttl: float, seconds: int
    ) -> None:
        await store.set(key, b"", ttl)
        for _ in range(2):
            assert found(await store.get(key)).expires_in in (seconds - 2, seconds - 1)
            assert await store.touch(key, ttl)

    @pytest.mark.parametrize("ttl", [30 * DAY, 30 * DAY + 1, 31 * DAY, 3650 * DAY])
    async def test_more_than_30_days_is_a_date(
        self, store: MemcachedStore, key: str, ttl: float
    ) -> None:
        await store.set(key, b"", ttl)
        life = found(await store.get(key)).expires_in
        assert life is not None
        assert abs(life - ttl) <= 3

    @pytest.mark.parametrize("ttl", [100 * 365 * DAY, math.inf])
    async def test_what_the_server_cannot_count_has_no_end(
        self, store: MemcachedStore, key: str, ttl: float
    ) -> None:
        await store.set(key, b"data", ttl)
        assert await store.touch(key, ttl)
        assert await store.get(key) == Record(b"data", digest(b"data"), None)

    async def test_a_record_lives_at_least_as_long_as_it_was_given(
        self, store: MemcachedStore, key: str
    ) -> None:
        """Wherever between two ticks of the server's clock it was written."""

        async def live(n: int) -> None:
            await anyio.sleep(n / 10)
            began = time.monotonic()
            await store.set(f"{key}:{n}", b"data", 1)
            await anyio.sleep(0.9)
            lives = await store.get(f"{key}:{n}") is not None
            assert lives or time.monotonic() > began + 1

        await gather(partial(live, n) for n in range(10))


class TestRoundTrips:
    async def test_a_read_and_each_kind_of_write_is_one(
        self, store: MemcachedStore, client: aiomcache.Client, key: str
    ) -> None:
        await gather([partial(store.get, key)] * 20)  # all connections are there

        async def costs(call: Callable[[], Awaitable[object]]) -> dict[str, int]:
            before = await count_commands(client)
            await call()
            after = await count_commands(client)
            return {name: n - before[name] for name, n in after.items() if n != before[name]}

        assert await costs(partial(store.set, key, b"1", 60, ABSENT)) == {"cmd_set": 1}
        record: Record | None = None

        async def read() -> None:
            nonlocal record
            record = await store.get(key)

        assert await costs(read) == {"cmd_get": 1}
        assert await costs(partial(store.set, key, b"2", 60, found(record).version)) == {
            "cmd_set": 1
        }
        await read()
        assert await costs(partial(store.touch, key, 60)) == {"cmd_touch": 1}
        assert await costs(partial(store.delete, key, found(record).version)) == {"cmd_set": 1}
        assert await store.get(key) is None
        assert await costs(partial(store.set, key, b"3", 60)) == {"cmd_set": 1}
        assert await costs(partial(store.delete, key)) == {"delete_hits": 1}

    async def test_a_version_that_was_not_read_here_costs_a_read(
        self, store: MemcachedStore, client: aiomcache.Client, key: str
    ) -> None:
        version = written(await store.set(key, b"1", 60))
        before = await count_commands(client)
        assert await store.set(key, b"2", 60, version) == digest(b"2")
        after = await count_commands(client)
        assert after["cmd_get"] - before["cmd_get"] == 1
        assert after["cmd_set"] - before["cmd_set"] == 1


class TestRestart:
    """A restarted server counts its writes from 1 again."""

    @pytest.fixture(params=["aiomcache", "emcache"])
    async def store(
        self, request: pytest.FixtureRequest, server: MemcachedServer
    ) -> AsyncIterator[MemcachedStore]:
        if request.param == "aiomcache":
            store = MemcachedStore(server.url, timeout=5)
            yield store
            await store.close()
        else:
            async with emcache_client(server.port) as client:
                yield MemcachedStore(client=client, timeout=5)

    @pytest.mark.parametrize("operation", ["set", "delete"])
    async def test_a_version_of_before_never_fits_another_record_of_the_same_number(
        self, store: MemcachedStore, server: MemcachedServer, key: str, operation: str
    ) -> None:
        async def number() -> bytes | None:
            async with raw(server) as ask:
                return (await ask(b"gets %b\r\n" % key.encode(), 3))[0].split()[-1]

        await store.set(key, b"before", 60, ABSENT)
        old = found(await store.get(key))
        before = await number()
        server.stop(kill=True)
        server.start()
        await restarted(store, key)
        async with raw(server) as ask:
            assert await ask(b"add %b 0 60 5\r\nafter\r\n" % key.encode()) == [b"STORED\r\n"]
        assert await number() == before
        if operation == "set":
            answer: Version | Conflict | None = await store.set(key, b"new", 60, old.version)
        else:
            answer = await store.delete(key, old.version)
        assert isinstance(answer, Conflict)
        assert found(answer.record).data == b"after"
        assert found(await store.get(key)).data == b"after"

    async def test_all_records_are_gone_and_a_version_brings_none_back(
        self, store: MemcachedStore, server: MemcachedServer, key: str
    ) -> None:
        await store.set(key, b"before", 60)
        old = found(await store.get(key))
        server.stop(kill=True)
        server.start()
        await restarted(store, key)
        assert await store.set(key, b"new", 60, old.version) == Conflict(None)
        assert await store.touch(key, 60) is False
        assert await store.get(key) is None

    async def test_the_first_call_after_it_finds_out(
        self, server: MemcachedServer, key: str, closed_later: Closer
    ) -> None:
        """Every connection that the store has is broken, and none looks so."""
        store = closed_later(MemcachedStore(server.url, timeout=5))
        for call in calls(store, key):
            await gather([partial(store.get, key)] * 20)
            server.stop(kill=True)
            server.start()
            await call()


async def restarted(store: MemcachedStore, key: str) -> None:
    """Wait until the client has found the new server; emcache takes its time."""
    with anyio.fail_after(10):
        while True:
            try:
                await store.get(key + ":restarted")
                return
            except StoreError:
                await anyio.sleep(0.05)


@asynccontextmanager
async def raw(server: MemcachedServer) -> AsyncIterator[Callable[..., Awaitable[list[bytes]]]]:
    """Say something to the server; get so many lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async def ask(request: bytes, lines: int = 1) -> list[bytes]:
        writer.write(request)
        return [await reader.readline() for _ in range(lines)]

    try:
        yield ask
    finally:
        writer.close()
        await writer.wait_closed()


class TestLimits:
    @pytest.mark.parametrize("options", [[], ["-I512k"], ["-I4m"]], ids=str)
    async def test_what_is_too_large_is_not_sent_and_the_old_record_stays(
        self, options: list[str], key: str, closed_later: Closer
    ) -> None:
        limit = {"-I512k": 2**19, "-I4m": 2**22}.get("".join(options[:1]), 2**20)
        with run_memcached_server("-m", "256", *options) as server:
            store = closed_later(MemcachedStore(server.url, timeout=5))
            largest = b"x" * (limit - len(key) - 64)
            version = written(await store.set(key, largest, 60))
            assert found(await store.get(key)).data == largest
            for expected in (None, version, ABSENT):
                with pytest.raises(SessionTooLarge, match=f"at most {limit:,}"):
                    await store.set(key, largest + b"x", 60, *([expected] if expected else []))
            assert found(await store.get(key)).data == largest

    async def test_a_server_without_room_is_an_error(self, key: str, closed_later: Closer) -> None:
        with run_memcached_server("-m", "8", "-M") as server:
            store = closed_later(MemcachedStore(server.url, timeout=5))
            with pytest.raises(StoreError, match="SERVER_ERROR out of memory"):
                for n in range(100):
                    await store.set(f"{key}:{n}", b"x" * 500_000, 60)

    async def test_a_server_that_counts_no_writes_is_an_error(
        self, key: str, closed_later: Closer
    ) -> None:
        """Its option -C; nothing would keep two requests from overwriting each other."""
        with run_memcached_server("-C") as server:
            store = closed_later(MemcachedStore(server.url, timeout=5))
            await store.set(key, b"1", 60)
            version = found(await store.get(key)).version
            with pytest.raises(StoreError, match="-C"):
                await store.set(key, b"2", 60, version)
            assert found(await store.get(key)).data == b"1"


class TestInterface:
    async def test_the_backend_as_a_cache_gives_bytes_as_in_version_3(
        self, client: aiomcache.Client, key: str
    ) -> None:
        interface = MemcachedSessionInterface(client, key_prefix="session:")
        assert interface.backend is client
        await interface.set(key, "value", expiry=60)
        assert await interface.get(key) == b"value"
        await interface.delete(key)
        assert await interface.get(key) is None

    def test_a_users_sessions_cannot_be_listed(self) -> None:
        """Since memcached drops records early, and those of the list as well."""
        app = Quart(__name__)
        app.config.update(SESSION_TYPE="memcached", SESSION_USER_KEY="user_id")
        with pytest.raises(ConfigError, match="MemcachedStore may drop records early"):
            Session(app)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """Let *serve* have each connection; give the URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"memcached://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)


def peculiar_server(
    handle: Callable[[bytes], bytes | None],
) -> AbstractAsyncContextManager[str]:
    """A server that answers each line as *handle* says; None: it closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            answer = b"VERSION 1.6.18\r\n" if line == b"version\r\n" else handle(line)
            if answer is None:
                break
            writer.write(answer)

    return listening(serve)


class TestOldServers:
    """A server of before 1.6, or a proxy, that has no meta commands and no settings to tell."""

    @pytest.fixture
    async def store(self, memcached_server: MemcachedServer) -> AsyncIterator[MemcachedStore]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from_server, to_server = await asyncio.open_connection(
                "127.0.0.1", memcached_server.port
            )

            async def answer() -> None:
                while data := await from_server.read(2**16):
                    writer.write(data)

            answering = asyncio.create_task(answer())
            try:
                while data := await reader.read(2**16):
                    if re.search(rb"^(m[gns]|stats)", data, re.MULTILINE):
                        version = data.startswith(b"version")
                        writer.write(b"VERSION 1.5.22\r\n" * version + b"ERROR\r\n")
                    else:
                        to_server.write(data)
            finally:
                answering.cancel()
                to_server.close()

        async with listening(serve) as url:
            store = MemcachedStore(url, timeout=5)
            yield store
            await store.close()

    async def test_all_works_but_a_life_is_not_known(self, store: MemcachedStore, key: str) -> None:
        assert await store.get(key) is None
        await store.set(key, b"\r\nEND\r\n", 60, ABSENT)
        record = found(await store.get(key))
        assert record == (b"\r\nEND\r\n", digest(b"\r\nEND\r\n"), None)
        assert await store.touch(key, 60) is True
        assert await store.set(key, b"2", 60, record.version) == digest(b"2")
        assert isinstance(await store.set(key, b"3", 60, record.version), Conflict)
        assert await store.delete(key, digest(b"2")) is None
        assert await store.get(key) is None


class TestOutages:
    async def test_a_stopped_server_is_an_error_and_its_return_is_seen(
        self, server: MemcachedServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(MemcachedStore(server.url, timeout=0.5))
        for call in calls(store, key):
            await call()
        server.stop(kill=True)
        for call in calls(store, key):
            started = clock()
            with pytest.raises(StoreError, match=r"memcached at 127\.0\.0\.1"):
                await call()
            assert clock() - started < 1.4
        server.start()
        for call in calls(store, key):
            await call()

    @pytest.mark.parametrize("given", [False, True], ids=["by URL", "client of the user"])
    async def test_a_silent_server_is_an_error_in_time_and_answers_stay_in_place(
        self, server: MemcachedServer, key: str, given: bool, closed_later: Closer
    ) -> None:
        client = aiomcache.Client("127.0.0.1", server.port, pool_size=2) if given else None
        if client is not None:
            closed_later(client)
        store = closed_later(
            MemcachedStore(server.url + "?max_connections=2", client=client, timeout=0.5)
        )
        await gather(partial(store.set, f"{key}:{n}", b"%d" % n, 60) for n in range(20))
        server.freeze()

        async def fails(n: int) -> None:
            started = clock()
            with pytest.raises(StoreError, match=r"no answer within 0\.5 s"):
                await store.get(f"{key}:{n}")
            assert clock() - started < 1.4

        await gather(partial(fails, n) for n in range(20))
        server.thaw()
        for _ in range(5):
            for n in range(20):
                record = await store.get(f"{key}:{n}")
                assert record is not None
                assert record.data == b"%d" % n

    async def test_emcache_on_a_silent_server_is_an_error_in_time(
        self, server: MemcachedServer, key: str
    ) -> None:
        async with emcache_client(server.port, timeout=None, max_connections=1) as client:
            store = MemcachedStore(client=client, timeout=0.3)
            await store.set(key, b"data", 60)
            server.freeze()
            for call in calls(store, key):
                started = clock()
                with pytest.raises(StoreError, match=r"no answer within 0\.3 s"):
                    await call()
                assert clock() - started < 1.2
            server.thaw()  # and does by and by what it was told
            await store.set(key + ":next", b"new", 60)
            assert found(await store.get(key + ":next")).data == b"new"

    @pytest.mark.parametrize("given", [False, True], ids=["by URL", "client of the user"])
    @pytest.mark.parametrize("passing", [b"", b"STOR", b"VA 4 k"], ids=["nothing", "set", "get"])
    async def test_a_connection_closed_in_the_middle_of_a_reply_is_an_error(
        self, key: str, passing: bytes, given: bool, closed_later: Closer
    ) -> None:
        """aiomcache's own commands would read on without end, and nothing else would run."""
        broken = 0

        def handle(line: bytes) -> bytes | None:
            nonlocal broken
            if line.startswith((b"stats", b"mn")):
                return b"MN\r\n"
            broken += 1
            return None

        async with peculiar_server(handle) as url:
            port = int(url.rpartition(":")[2])
            client = aiomcache.Client("127.0.0.1", port, pool_size=1) if given else None
            if client is not None:
                closed_later(client)
            store = closed_later(MemcachedStore(url, client=client, timeout=5))
            for call in calls(store, key):
                broken = 0
                with pytest.raises(StoreError, match="IncompleteReadError"):
                    await call()
                assert broken == 2

    async def test_connections_that_a_firewall_forgot_are_made_again(
        self, key: str, closed_later: Closer
    ) -> None:
        """Each looks well until something is sent."""
        generation = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            born = generation
            answers = {b"version": b"VERSION 1.6.18\r\n", b"mn": b"MN\r\n"}
            while line := await reader.readline():
                if born < generation:
                    break
                writer.write(answers.get(line.strip(), b"EN\r\n"))

        async with listening(serve) as url:
            store = closed_later(MemcachedStore(url, timeout=5))
            for _ in range(3):
                await gather([partial(store.get, key)] * 20)
                generation += 1
                assert await store.get(key) is None

    @pytest.mark.parametrize(
        "answer",
        [
            b"secret nonsense\r\n",
            b"VA 4 kanother-key c1 t5\r\ndata\r\n",
            b"VA 4 k%b c1 t5\r\ndatadatadata",
            b"VA four k%b c1 t5\r\ndata\r\n",
            b"x" * 100_000,
        ],
        ids=["nonsense", "another key", "too long", "no number", "endless"],
    )
    async def test_an_answer_that_is_none_to_the_question_is_an_error_that_does_not_show_it(
        self, key: str, answer: bytes, closed_later: Closer
    ) -> None:
        def handle(line: bytes) -> bytes:
            if line.startswith((b"stats", b"mn")):
                return b"MN\r\n"
            return answer % key.encode() if b"%b" in answer else answer

        async with peculiar_server(handle) as url:
            store = closed_later(MemcachedStore(url, timeout=5))
            for _ in range(2):
                with pytest.raises(StoreError) as error:
                    await store.get(key)
                assert "secret" not in f"{error.value} {error.value.__cause__}"
                assert key not in f"{error.value} {error.value.__cause__}"

    async def test_a_refusal_shows_neither_key_nor_data(
        self, key: str, closed_later: Closer
    ) -> None:
        def handle(line: bytes) -> bytes:
            return b"SERVER_ERROR busy\r\n"

        async with peculiar_server(handle) as url:
            store = closed_later(MemcachedStore(url, timeout=5))
            for call in calls(store, key):
                with pytest.raises(StoreError, match="SERVER_ERROR busy") as error:
                    await call()
                shown = f"{error.value} {error.value.__cause__}"
                assert key not in shown
                assert "private" not in shown
            async with emcache_client(int(url.rpartition(":")[2])) as client:
                store = MemcachedStore(client=client)
                for call in calls(store, key)[1:3]:
                    with pytest.raises(StoreError, match="SERVER_ERROR busy"):
                        await call()

    async def test_what_is_not_stored_is_an_error(self, key: str, closed_later: Closer) -> None:
        """A proxy says so when it cannot reach the server."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers = {b"version": b"VERSION 1.6.18\r\n", b"mn": b"MN\r\n"}
            while line := await reader.readline():
                if line.startswith(b"set "):
                    await reader.readline()
                writer.write(answers.get(line.strip(), b"NOT_STORED\r\n"))

        async with listening(serve) as url:
            store = closed_later(MemcachedStore(url, timeout=5))
            with pytest.raises(StoreError, match="did not store"):
                await store.set(key, b"data", 60)
