"""Browsers that do anything at all, one request after another and overlapping, beside a dict."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from backends import BACKENDS, make_store
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)
from quart import Quart, Response
from stages import Remembering, memory
from werkzeug.datastructures import Headers

from quart_session import remains
from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface
from quart_session.remains import is_alive
from quart_session.stores.base import Store
from quart_session.testing import gather

PERMANENT = "_permanent"

USER = "_user"
"""Where the model has whom the session is bound to."""

keys = st.sampled_from(["a", "b", "c", "d"])
values = st.one_of(
    st.integers(0, 3), st.text("xyž🐎", max_size=2), st.lists(st.integers(0, 3), max_size=2)
)
users = st.sampled_from(["ada", "bob", None])
browsers = st.integers(0, 2)
back = st.sampled_from([0, 0, 0, 1, 2])
changes = st.one_of(
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("delete"), keys, st.none()),
    st.tuples(st.just("append"), keys, st.integers(0, 3)),
    st.tuples(st.just("setdefault"), keys, values),
    st.tuples(st.just("update"), st.none(), st.dictionaries(keys, values, max_size=3)),
    st.tuples(st.just("permanent"), st.none(), st.booleans()),
    st.tuples(st.just("bind"), st.none(), users),
    st.tuples(
        st.sampled_from(
            ["popitem", "clear", "destroy", "regenerate", "save", "reload", "suppress"]
        ),
        st.none(),
        st.none(),
    ),
)


def visible(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (PERMANENT, USER)}


def is_empty(document: dict[str, Any]) -> bool:
    return not visible(document) and USER not in document


def same(one: Any, other: Any) -> bool:
    """Alike as JSON is: 1 is not True."""
    return json.dumps(one) == json.dumps(other)


class World:
    """What ought to be stored, as dicts."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.ended: set[str] = set()
        self.vacant: set[str] = set()
        """Where the last key was taken out: there is room for what others add."""
        self.renewed_as: dict[str, str] = {}
        """Which id came after which, without anybody asking for it."""

    def present(self, sid: str) -> str:
        """The id that the session has now that once had *sid*."""
        while sid in self.renewed_as:
            sid = self.renewed_as[sid]
        return sid


class Model:
    """One request as it ought to be."""

    def __init__(self, world: World, sid: str | None) -> None:
        self.world = world
        now = None if sid is None else world.present(sid)
        self.origin = now if now in world.sessions else None
        gone = now in world.ended or now in world.vacant
        self.superseded = self.origin is None and (gone or now != sid)
        self.over = False
        self.doomed: str | None = None
        self.forced = self.renewed = self.cleared = self.suppressed = False
        self.mine: set[str] = set()
        self.cookies: set[str | None] = {None}
        """What the response may say."""
        self._take(world.sessions[self.origin] if self.origin else {PERMANENT: True})

    def _take(self, document: dict[str, Any]) -> None:
        self.document = deepcopy(document)
        self.base = deepcopy(document)

    def set(self, key: str, value: Any) -> None:
        self.document[key] = deepcopy(value)
        self._note(key)

    def delete(self, key: str) -> None:
        del self.document[key]
        self._note(key)

    def _note(self, *keys: str) -> None:
        self.mine.update(keys)
        self.suppressed = False

    def bind(self, user: str | None) -> None:
        self.document.pop(USER, None)
        if user is not None:
            self.document[USER] = user
        self._note(USER)
        self.forced = True

    def suppress(self) -> None:
        self.suppressed = True
        self.forced = False

    def clear(self) -> None:
        self._note(USER, *visible(self.document))
        self.cleared = True
        self._drop_data()

    def _drop_data(self) -> None:
        self.document = {k: v for k, v in self.document.items() if k == PERMANENT}

    def destroy(self) -> None:
        self.doomed = self.doomed or self.origin
        self.origin = None
        self.forced = self.renewed = self.cleared = False
        self.mine = set()
        self._drop_data()

    def regenerate(self) -> None:
        self.forced = self.renewed = True
        self.suppressed = self.superseded = False

    def reload(self) -> None:
        if self.origin is None:
            return
        now = self.world.present(self.origin)
        if now in self.world.sessions:
            self.origin = now
            self._take(self.world.sessions[now])
            self._start_over()
        else:
            self.document = {}
            self.over = True

    def _start_over(self) -> None:
        self.forced = self.renewed = self.cleared = self.suppressed = False
        self.mine = set()

    def save(self, sid: str, renews: bool = False) -> None:
        """*sid*: the id that the session has now. *renews*: whether it was old enough for it."""
        if not self.over:
            self.over = not self._save(sid, renews)

    def _save(self, sid: str, renews: bool) -> bool:
        world = self.world
        if self.doomed is not None:
            if not self._end(self.doomed):
                return False
            self.doomed = None
        if self.superseded:
            self.cookies = {None}
            return False
        if self.origin is None:
            if not is_empty(self.document) and not self.suppressed:
                world.sessions[sid] = deepcopy(self.document)
                self._saved(sid)
            return True

        if self.suppressed:
            self.renewed = False
            return True
        origin = world.present(self.origin)
        wanted = self.forced or self.renewed or self.cleared or renews
        if not wanted and not self._changed():
            return True
        renews = renews and not self.renewed and origin == self.origin
        self.mine |= self._changed()
        if self.cleared and is_empty(self.document):
            if not self._end(origin):
                return False
            self._removed()
            return True
        if origin in world.sessions:
            theirs = world.sessions[origin]
        elif origin in world.vacant:
            theirs = {k: v for k, v in self.document.items() if k == PERMANENT or k in self.mine}
        else:
            self.cookies = {None}
            return False
        was_vacant = origin in world.vacant
        kept = {
            key: value
            for key, value in theirs.items()
            if key not in self.mine and (key == PERMANENT or not self.cleared)
        }
        merged = {**kept, **{k: v for k, v in self.document.items() if k in self.mine}}
        self.document = deepcopy(merged)
        world.sessions.pop(origin, None)
        world.vacant.discard(origin)
        if is_empty(merged):
            (world.ended if self.renewed else world.vacant).add(origin)
            self._removed(perhaps=was_vacant)
            return True
        if self.renewed:
            world.ended.add(origin)
        elif renews:
            world.renewed_as[origin] = sid
        else:
            assert sid == origin
        world.sessions[sid] = merged
        self._saved(sid, anew=was_vacant)
        return True

    def _changed(self) -> set[str]:
        return {
            key
            for key in {**self.base, **self.document}
            if key not in self.base
            or key not in self.document
            or not same(self.base[key], self.document[key])
        }

    def _end(self, sid: str) -> bool:
        sid = self.world.present(sid)
        alive = self.world.sessions.pop(sid, None) is not None
        if alive or sid in self.world.vacant:
            self.world.vacant.discard(sid)
            self.world.ended.add(sid)
        self.cookies = {"remove"} if alive else {None}
        return alive

    def _saved(self, sid: str, anew: bool = False) -> None:
        if anew or sid != self.origin or PERMANENT in self.mine:
            self.cookies = {sid}
        self.origin = sid
        self._start_over()
        self.base = deepcopy(self.document)

    def _removed(self, perhaps: bool = False) -> None:
        self.origin = None
        self._start_over()
        self.cookies = {"remove"} | (self.cookies if perhaps else set())


class Browsers(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(
        self,
        make_store: Callable[[], Store] = memory,
        count: Callable[[str], None] = lambda what: None,
    ) -> None:
        super().__init__()
        self.make_store = make_store
        self.count = count
        logging.getLogger("quart_session").disabled = True
        self.runner = asyncio.Runner()
        self.app = Quart(__name__)
        self.world = World()
        self.cookies: list[list[str | None]] = []
        """What each browser holds, and held before."""

    @initialize(count=st.integers(1, 3), renews=st.booleans())
    def start(self, count: int, renews: bool = False) -> None:
        self.renews = renews
        """Whether each request finds its session old enough for a new id."""
        self.store = Remembering(self.make_store())
        config = SessionConfig(
            key_prefix=f"{uuid4().hex}:", timeout=60, renew_after=1e-9 if renews else None
        )
        self.interface = SessionInterface(self.store, config)
        self.cookies = [[None] for _ in range(count)]
        for browser in range(count):
            self.visit(browser, 0, [("update", None, {"a": 1, "b": [2]})])

    @rule(target=requests, browser=browsers, back=back, todo=st.lists(changes, max_size=4))
    def begin(self, browser: int, back: int, todo: list[Any]) -> Any:
        """A request that goes on while others come and go.

        *back*: with a cookie that the browser held so many cookies ago, as a request has that was
        sent before the answer to another one came.
        """
        browser %= len(self.cookies)
        return self.run(self._begin(browser, back, todo))

    @rule(request=consumes(requests), todo=st.lists(changes, max_size=2))
    def finish(self, request: Any, todo: list[Any]) -> None:
        self.run(self._finish(request, todo))

    @rule(browser=browsers, back=back, todo=st.lists(changes, max_size=4))
    def visit(self, browser: int, back: int, todo: list[Any]) -> None:
        """A request that nothing comes in between."""
        browser %= len(self.cookies)

        async def visit() -> None:
            await self._finish(await self._begin(browser, back, todo), [])

        self.run(visit())

    def run(self, work: Any) -> Any:
        self.count("steps")
        return self.runner.run(work)

    async def _begin(self, browser: int, back: int, todo: list[Any]) -> Any:
        headers = Headers({"Host": "localhost"})
        held = self.cookies[browser]
        if (sid := held[-1 - min(back, len(held) - 1)]) is not None:
            headers["Cookie"] = f"session={sid}"
        request = self.app.request_class(
            "GET", "http", "/", b"", headers, "", "1.1", {}, send_push_promise=_no_push
        )
        session = await self.interface.open_session(self.app, request)
        model = Model(self.world, sid)
        assert same_data(session, model)
        for change in todo:
            await self._do(change, session, model)
        return browser, session, model

    async def _do(self, change: Any, session: Any, model: Model) -> None:
        what, key, value = change
        if what == "set":
            session[key] = deepcopy(value)
            model.set(key, value)
        elif what == "delete" and key in session:
            del session[key]
            model.delete(key)
        elif what == "append" and isinstance(model.document.get(key), list):
            session[key].append(value)
            model.document[key].append(value)
        elif what == "setdefault":
            if key not in model.document:
                model.set(key, value)
            session.setdefault(key, deepcopy(value))
        elif what == "update":
            session.update(deepcopy(value))
            for name in value:
                model.set(name, value[name])
        elif what == "permanent":
            session.permanent = value
            if value != model.document.get(PERMANENT, False):  # many assign it at every request
                model.set(PERMANENT, value)
        elif what == "popitem" and len(session):
            key, _ = session.popitem()
            model.delete(key)
        elif what == "bind":
            session.bind(value)
            model.bind(value)
        elif what == "suppress" and not self.renews:
            session.modified = False
            model.suppress()
        elif what == "save":
            await session.save()
            model.save(session._sid)
        elif what in ("clear", "destroy", "regenerate"):
            getattr(session, what)()
            getattr(model, what)()
        elif what == "reload":
            await session.reload()
            model.reload()
        assert same_data(session, model), change

    async def _finish(self, request: Any, todo: list[Any]) -> None:
        browser, session, model = request
        for change in todo:
            await self._do(change, session, model)
        response = Response("")
        await self.interface.save_session(self.app, session, response)
        model.save(session._sid, self.renews)
        told: str | None = None
        for cookie in response.headers.getlist("Set-Cookie"):
            told = cookie.partition("=")[2].partition(";")[0] or "remove"
        assert told in model.cookies
        if told is not None:
            held = self.cookies[browser]
            now = None if told == "remove" else told
            if held[-1] != now:
                held.append(now)
        await self._compare()

    async def _stored(self, sid: str) -> dict[Any, Any] | None:
        found = await self.interface.records.look_up(sid)
        if found is None or not is_alive(found.record):
            return None
        document = self.interface.records.decode(found.record.data)
        user = document.pop("_qs", {}).get("user")
        return document if user is None else {**document, USER: user}

    async def _compare(self) -> None:
        """What is stored is what the model says, whole and nothing else."""
        world = self.world
        for sid in world.ended | world.vacant:
            assert await self._stored(sid) is None
        for sid, document in world.sessions.items():
            assert await self._stored(sid) == document
        for sid in world.renewed_as:
            assert await self._stored(sid) == world.sessions.get(world.present(sid))
        written = [key for key in self.store.keys if ":user:" not in key]
        left = await gather(partial(self.store.get, key) for key in written)
        assert len(left) - left.count(None) == len(
            world.sessions.keys() | world.ended | world.vacant | world.renewed_as.keys()
        )
        for user in ("ada", "bob"):
            bound = [sid for sid in world.sessions if world.sessions[sid].get(USER) == user]
            keys = {self.interface.records.keys_of(sid)[0] for sid in bound}
            assert {noted.key for noted in await self.interface.users.alive(user)} == keys

    def teardown(self) -> None:
        logging.getLogger("quart_session").disabled = False
        with self.runner:
            self.runner.run(self.interface.close())
        self.count("runs")


def same_data(session: Any, model: Model) -> bool:
    return dict(session) == visible(model.document)


async def _no_push(path: str, headers: Headers) -> None: ...


RUNS = {
    "memory": (60, 10_000),
    "sqlite": (10, 1_000),
    "filesystem": (10, 1_000),
    "redis": (10, 1_000),
    "redis-cluster": (3, 50),
    "mongodb": (3, 50),
}
"""How many runs the short form has on a backend, and the long one."""

AT_A_TIME = 500
"""Hypothesis keeps half a megabyte of each run until it has made all of them."""


@pytest.mark.parametrize("backend", RUNS)
def test_whatever_browsers_do(backend, soak, request, tmp_path, monkeypatch, tally):
    for life in ("MARKER_LIFE", "GRACE"):  # nothing goes while a run lasts
        monkeypatch.setattr(remains, life, 3600.0)
    make = memory
    if backend != "memory":
        make = partial(make_store, BACKENDS[backend](request, tmp_path), timeout=60)
    machine = partial(Browsers, make, lambda what: tally(f"{what} of browsers on {backend}", 1))
    runs = RUNS[backend][soak]
    for done in range(0, runs, AT_A_TIME):
        run_state_machine_as_test(
            seed(done)(machine),
            settings=settings(
                max_examples=min(runs - done, AT_A_TIME),
                stateful_step_count=50 if soak else 30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )


@pytest.fixture
def state() -> Iterator[Browsers]:
    state = Browsers()
    yield state
    state.teardown()


def test_a_save_without_a_change_does_not_end_a_session_that_is_renewed_twice(state):
    """Found as above: what the request changed after that save was lost."""
    state.start(1, renews=True)
    state.visit(0, 0, [])
    slow = state.begin(0, 1, [])
    state.visit(0, 0, [])
    state.finish(slow, [("save", None, None), ("set", "c", 3)])


def test_reload_forgets_a_regenerate_that_was_not_saved(state):
    """Found as above: the response named an id that had never been stored."""
    state.start(1)
    again = [("regenerate", None, None), ("reload", None, None), ("set", "a", 0)]
    state.visit(0, 0, again)
    state.visit(0, 0, [])
