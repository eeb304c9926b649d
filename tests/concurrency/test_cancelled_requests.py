"""A request that is cancelled at any await leaves the old session or the new one, and no harm."""

from __future__ import annotations

import uuid
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from backends import ONE_CONNECTION, make_store
from quart import Quart, Response
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers

from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface
from quart_session.remains import is_alive
from quart_session.stores.base import ANY, Conflict, Store
from quart_session.testing import run_and_cancel

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

OLD = {"user": "ada", "cart": ["tea"]}


@pytest.fixture(params=ONE_CONNECTION)
async def store(request, tmp_path, anyio_backend_name):
    settings = ONE_CONNECTION[request.param](request, tmp_path)
    store = make_store(settings, timeout=5, trio=anyio_backend_name == "trio")
    yield store
    await store.close()


class Browsers:
    """Requests with the session id that they are given."""

    def __init__(self, app: Quart, store: Store) -> None:
        self.app = app
        self.store = store
        self.prefix = f"{uuid.uuid4().hex}:"
        self.interface = SessionInterface(store, SessionConfig(key_prefix=self.prefix, timeout=5))

    async def open(self, sid: str | None = None) -> Any:
        headers = Headers({"Host": "localhost"})
        if sid is not None:
            headers["Cookie"] = f"session={sid}"
        request = self.app.request_class(
            "GET", "http", "/", b"", headers, "", "1.1", {}, send_push_promise=_no_push
        )
        return await self.interface.open_session(self.app, request)

    async def save(self, session: Any) -> None:
        await self.interface.save_session(self.app, session, Response(""))

    async def begin(self) -> str:
        """Store a session; return its id."""
        session = await self.open()
        session.update(OLD)
        await self.save(session)
        return session.sid

    async def look(self, sid: str) -> dict[str, Any] | None:
        """What a request with *sid* finds."""
        found = await self.interface.records.look_up(sid)
        if found is None or not is_alive(found.record):
            return None
        document = self.interface.records.decode(found.record.data)
        return {key: value for key, value in document.items() if not key.startswith("_")}

    async def check_works(self) -> None:
        """The store answers each of the next hundred calls, and answers that call."""
        for n in range(25):
            key, data = f"{self.prefix}next:{n}", b"%d" % n
            version = await self.store.set(key, data, 60)
            record = await self.store.get(key)
            assert record is not None and record[:2] == (data, version)
            assert await self.store.touch(key, 60) is True
            assert await self.store.delete(key, version) is None


async def _no_push(path: str, headers: Headers) -> None: ...


@pytest.fixture
def browsers(store, anyio_backend_name) -> Browsers:
    return Browsers((QuartTrio if anyio_backend_name == "trio" else Quart)(__name__), store)


def change(session):
    session["user"] = "bob"
    session["cart"].append("milk")


NEW = {"user": "bob", "cart": ["tea", "milk"]}
THEIRS = {**OLD, "theirs": True}
MERGED = {**NEW, "theirs": True}


def change_and_regenerate(session):
    change(session)
    session.regenerate()


def destroy_and_refill(session):
    session.destroy()
    session["bye"] = True


SAVES = {
    # what the request does; whether another one saves first; what the old id may give afterwards
    "update": (change, False, [OLD, NEW]),
    "merge": (change, True, [THEIRS, MERGED]),
    "regenerate": (change_and_regenerate, False, [OLD, None]),
    "regenerate and merge": (change_and_regenerate, True, [THEIRS, None]),
    "destroy": (lambda session: session.destroy(), False, [OLD, None]),
    "destroy what changed": (lambda session: session.destroy(), True, [THEIRS, None]),
    "destroy and refill": (destroy_and_refill, False, [OLD, None]),
    "clear": (lambda session: session.clear(), True, [THEIRS, None]),
    "delete every key": (lambda session: [session.pop(key) for key in OLD], False, [OLD, None]),
}

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
    do, others, possible = SAVES[name]
    await browsers.begin()  # the client has its tasks
    before = tasks()
    at, finished = 0, False
    while not finished:
        sid = await browsers.begin()
        session = await browsers.open(sid)
        session.get("user")
        if others:
            other = await browsers.open(sid)
            other["theirs"] = True
            await browsers.save(other)
        do(session)

        finished = await run_and_cancel(browsers.save(session), at, native=native)
        await all_ended(before)

        await browsers.check_works()
        left = await browsers.look(sid)
        assert left in possible
        if finished:
            assert left == possible[-1]
        if name.startswith("regenerate"):
            whole = MERGED if others else NEW
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
async def test_the_save_of_a_new_session_cancelled_anywhere(browsers, native):
    at, finished = 0, False
    while not finished:
        session = await browsers.open()
        session.update(OLD)
        finished = await run_and_cancel(browsers.save(session), at, native=native)
        await browsers.check_works()
        assert await browsers.look(session.sid) in ([OLD] if finished else [None, OLD])
        at += 1


@ways
@pytest.mark.parametrize("fresh", [True, False], ids=["first call", "later call"])
async def test_opening_cancelled_anywhere(browsers, native, fresh):
    sid = await browsers.begin()
    at, finished = 0, False
    while not finished:
        if fresh:
            await browsers.store.close()
        finished = await run_and_cancel(browsers.open(sid), at, native=native)
        await browsers.check_works()
        assert await browsers.look(sid) == OLD
        at += 1


@ways
async def test_requests_that_wait_for_a_cancelled_one_go_on(browsers, native):
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
