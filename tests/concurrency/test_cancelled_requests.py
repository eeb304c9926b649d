"""A request that is cancelled at any await leaves the old session or the new one, and no harm."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from backends import ONE_CONNECTION, make_store
from quart import Quart
from quart_trio import QuartTrio
from saves import MERGED, NEW, OLD, SAVES, Browsers

from quart_session import ConfigError
from quart_session.interface import SessionInterface
from quart_session.stores.base import ANY, Conflict, Store
from quart_session.testing import run_and_cancel

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


@pytest.fixture(params=ONE_CONNECTION)
async def store(request, tmp_path, anyio_backend_name):
    settings = ONE_CONNECTION[request.param](request, tmp_path)
    store = make_store(settings, timeout=5, trio=anyio_backend_name == "trio")
    yield store
    await store.close()


@pytest.fixture
def browsers(store, anyio_backend_name) -> Browsers:
    return Browsers((QuartTrio if anyio_backend_name == "trio" else Quart)(__name__), store)


both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
ways = pytest.mark.parametrize(
    ("anyio_backend", "native"),
    [("asyncio", True), ("asyncio", False), ("trio", False)],
    ids=["asyncio-task", "asyncio-scope", "trio"],
)


def tasks() -> set[anyio.TaskInfo]:
    return set(anyio.get_running_tasks())


async def all_ended(before: set[anyio.TaskInfo]) -> None:
    """Wait for the end of all tasks that were not there *before*: a store may still have commands
    on their way whose answers nobody waits for."""
    with anyio.fail_after(5):
        while tasks() - before:
            await checkpoint()


@ways
@pytest.mark.parametrize("name", SAVES)
async def test_a_save_cancelled_anywhere(browsers, name, native, tally):
    save = SAVES[name]
    if save.binds and browsers.store.evicts:
        with pytest.raises(ConfigError):
            await browsers.prepare(save)
        return
    await browsers.begin()  # the client has its tasks
    before = tasks()
    at, finished = 0, False
    while not finished:
        sid, session = await browsers.prepare(save)
        finished = await run_and_cancel(browsers.save(session), at, native=native)
        await all_ended(before)

        await browsers.check_works()
        left = await browsers.look(sid)
        assert left in save.possible
        if finished:
            assert left == save.possible[-1]
        await browsers.check_index(sid, session.sid)
        if save.regenerates:
            whole = MERGED if save.others else NEW
            new = await browsers.look(session.sid)
            # One of the two ids has all that there is.
            assert new == whole if left is None else new in (None, whole, NEW)

        # Whoever comes next can save: nobody holds the session any more.
        if left is not None:
            late = await browsers.open(sid)
            late["late"] = at
            await browsers.save(late)
            assert await browsers.look(sid) == {**left, "late": at}
        at += 1
    tally(f"awaits of {name}", at - 1)


@ways
async def test_the_save_of_a_new_session_cancelled_anywhere(browsers, native, tally):
    at, finished = 0, False
    while not finished:
        session = await browsers.open()
        session.update(OLD)
        finished = await run_and_cancel(browsers.save(session), at, native=native)
        await browsers.check_works()
        assert await browsers.look(session.sid) in ([OLD] if finished else [None, OLD])
        at += 1
    tally("awaits of the save of a new session", at - 1)


@ways
@pytest.mark.parametrize("fresh", [True, False], ids=["first call", "later call"])
async def test_opening_cancelled_anywhere(browsers, native, fresh, tally):
    sid = await browsers.begin()
    at, finished = 0, False
    while not finished:
        if fresh:
            await browsers.store.close()
        finished = await run_and_cancel(browsers.open(sid), at, native=native)
        await browsers.check_works()
        assert await browsers.look(sid) == OLD
        at += 1
    tally("awaits of opening", at - 1)


@ways
async def test_requests_that_wait_for_a_cancelled_one_go_on(browsers, native, tally):
    """Saves of one session queue; who leaves the queue early lets the next one in."""
    sid = await browsers.begin()
    at, finished = 0, False
    while not finished:
        sessions = [await browsers.open(sid) for _ in range(3)]
        for n, session in enumerate(sessions):
            session[f"key {n}"] = at
        with anyio.fail_after(5):
            async with anyio.create_task_group() as others:
                for session in sessions[1:]:
                    others.start_soon(browsers.save, session)
                finished = await run_and_cancel(browsers.save(sessions[0]), at, native=native)
        left = await browsers.look(sid)
        assert (left["key 1"], left["key 2"]) == (at, at)
        at += 1
    tally("awaits of a save that others wait for", at - 1)


class Halting(Store):
    """Stops in the middle of a write until the test lets it go on."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.halt: str | None = None
        """Before or after the write."""
        self.halted = anyio.Event()

    async def get(self, key):
        return await self.inner.get(key)

    async def set(self, key, data, ttl, expected=ANY):
        if self.halt == "before the write":
            self.halted.set()
            await anyio.sleep_forever()
        result: bytes | Conflict = await self.inner.set(key, data, ttl, expected)
        if self.halt == "after the write":
            self.halted.set()
            await anyio.sleep_forever()
        return result

    async def delete(self, key, expected=ANY):
        return await self.inner.delete(key, expected)

    async def touch(self, key, ttl):
        return await self.inner.touch(key, ttl)


@both_loops
@pytest.mark.parametrize(
    ("moment", "kept"),
    [("in the view", OLD), ("before the write", OLD), ("after the write", {**OLD, "user": "bob"})],
)
async def test_a_client_that_disconnects(browsers, moment, kept):
    """Quart cancels the request, wherever it is."""
    from quart import session

    app = browsers.app
    store = Halting(browsers.store)
    app.session_interface = SessionInterface(store, browsers.interface.config)

    @app.route("/")
    async def view():
        session["user"] = "bob"
        if store.halt == "in the view":
            store.halted.set()
            await anyio.sleep_forever()
        return "done"

    async def request(sid: str, disconnected: anyio.Event) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive():
            for message in messages:
                return message
            await disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                disconnected.set()  # the server is done with this request

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"cookie", f"session={sid}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
        }
        await app(scope, receive, send)
        return sent

    sid = await browsers.begin()
    before = tasks()
    store.halt = moment
    disconnected = anyio.Event()
    answers: list[Any] = []

    async def serve() -> None:
        answers.append(await request(sid, disconnected))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as server:
            server.start_soon(serve)
            await store.halted.wait()
            disconnected.set()
    assert answers == [[]]
    await all_ended(before)
    assert await browsers.look(sid) == kept

    store.halt = None
    await browsers.check_works()
    with anyio.fail_after(5):
        sent = await request(sid, anyio.Event())
    assert sent[0]["status"] == 200
    assert await browsers.look(sid) == {**OLD, "user": "bob"}
