"""Runs programs of concurrent requests and judges each run by a model that is a plain dict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any
from uuid import uuid4

from programs import INITIAL, OPERATIONS, Intent, Program
from quart import Quart, Response
from scheduling import ACTOR, Effect, GatedStore, Schedule, explore
from werkzeug.datastructures import Headers

from quart_session import signals
from quart_session._hotpath import new_sid
from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface
from quart_session.remains import MARKER, MARKER_LIFE, VACANT, is_alive, is_left_over
from quart_session.serializer import TaggedJSONSerializer
from quart_session.stores.base import Conflict, Store

AGE, ABSOLUTE_LIFETIME = 500, 1000
"""Seconds: how old every session is, and how old it may get."""

LEFT = ABSOLUTE_LIFETIME - AGE
DUE, NOT_DUE = 100, LEFT - 10
"""Seconds of life left at which a session's life is extended, and at which it is not."""

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"

REMAINS = (MARKER, VACANT)

codec = TaggedJSONSerializer()


@dataclass
class Request:
    """One request of a run: what it saw, did and answered."""

    seen: list[dict[Any, Any]] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    drops: int = 0
    error: BaseException | None = None

    elsewhere: bool = False
    """Whether it comes from an address where the session must not be used."""

    # The judge's notes
    loaded: bool | None = None
    met_vacancy: bool = False
    """Whether it found the session vacant, so that the browser may have been told to forget it."""
    due: bool = False
    """Whether the session's life was due to be extended when it was loaded."""
    superseded: bool = False
    done: int = 0
    """How many of the intents are in the store."""
    pending: str | None = None
    """The key of the record that a new id has got but that nobody knows yet."""
    answer: str | None = None
    """What the cookie should be: "remove", the key of the record, or None."""
    own_key: str | None = None
    """The key of a session that this request has begun."""
    outgrown: str | None = None
    """The key that it had before."""
    touched: bool = False
    reloaded: bool = False
    gone: bool = False
    """Whether the session was told that its record is gone, before it changed anything."""
    removed: bool = False

    @property
    def intent(self) -> Intent:
        return self.intents[self.done] if self.done < len(self.intents) else Intent()


@dataclass
class Verdict:
    """What is wrong with one run; nothing, if all is well."""

    problems: list[tuple[str, str]] = field(default_factory=list)
    """The kind and what happened in particular."""

    def add(self, kind: str, text: str) -> None:
        self.problems.append((kind, text))

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.problems}


LOST = "lost update"
REVIVED = "an ended session came back"
READ_WROTE = "a read wrote"
COOKIE = "wrong cookie"
SIGNAL = "wrong signal"
LATER = "the deadline moved"
PARTIAL = "not a whole record"
LEFT_OVER = "a record is left over"
STRANGE = "a write that nothing explains"
FAILED = "a request failed"
LOOK = "a look at what never was"
LOSSES = {LOST, REVIVED}


class Stage:
    """One store, and as many processes in front of it as there are requests; or one process.

    :param inner: makes the real store; a new one for each run, or always the same.
    :param around: puts something between the sessions and the store.
    :param dirty: whether every request saves in any case.
    :param pass_time: lets seconds go by in such a store.
    :param version_3: whether the session was stored by version 3, under another key.
    :param renewal: whether the session is so old that each request is to give it a new id.
    """

    def __init__(
        self,
        inner: Callable[[], Store],
        *,
        one_process: bool,
        around: Callable[[Store], Store] | None = None,
        dirty: bool = False,
        pass_time: Callable[[Store, float], None] | None = None,
        version_3: bool = False,
        renewal: bool = False,
    ) -> None:
        self.app = Quart(__name__)
        self.inner = inner
        self.one_process = one_process
        self.around = around
        self.dirty = dirty
        self.pass_time = pass_time
        self.version_3 = version_3
        self.renewal = renewal
        self.schedules = 0
        self.title = f"schedules on {type(inner()).__name__}, " + (
            "one process" if one_process else "several processes"
        )
        self.config = SessionConfig(
            absolute_lifetime=ABSOLUTE_LIFETIME,
            timeout=30,
            renew_after=AGE / 2 if renewal else None,
            protection="delete",
        )

    async def judge_all(
        self, program: Program, most: int | None = None, seed: int = 0
    ) -> AsyncIterator[tuple[Schedule, Verdict, list[Effect]]]:
        """Run *program* in every order; say what is wrong with each."""
        runs: list[tuple[Verdict, list[Effect]]] = []

        async def run(schedule: Schedule) -> None:
            runs.append(await self._run(program, schedule))

        async for schedule in explore(run, most, seed):
            self.schedules += 1
            yield schedule, *runs.pop()

    async def check(self, program: Program, most: int | None = None, seed: int = 0) -> None:
        """Fail at the first order in which anything is wrong."""
        async for schedule, verdict, log in self.judge_all(program, most, seed):
            if verdict.problems:
                lines = [f"{program}, schedule {schedule.trace()}:"]
                lines += [f"  {kind}: {text}" for kind, text in verdict.problems]
                lines += [f"    {effect}" for effect in log]
                raise AssertionError("\n".join(lines))

    async def _run(self, program: Program, schedule: Schedule) -> tuple[Verdict, list[Effect]]:
        inner = self.inner()
        gated = GatedStore(inner)
        store = gated if self.around is None else self.around(gated)
        one = SessionInterface(store, self.config)
        sid = str(uuid4()) if self.version_3 else new_sid()
        key = one.records.keys_of(sid)[-1]
        document = {
            "_permanent": True,
            "_addr": HOME,
            "_qs": {"created": int(time.time()) - AGE},
            **INITIAL,
        }
        refresh = any(name == "refresh" for name in program)
        await inner.set(key, codec.dumps(document), DUE if refresh else NOT_DUE)

        requests = [Request(elsewhere=OPERATIONS[name].elsewhere) for name in program]
        actors = []
        for name, request in zip(program, requests, strict=True):
            interface = one if self.one_process else SessionInterface(store, self.config)
            actors.append(self._actor(name, request, interface, gated, sid, key))

        async def note_drop(app: Quart, **_: Any) -> None:
            if app is self.app:
                requests[ACTOR.get()].drops += 1

        with signals.session_write_dropped.connected_to(note_drop):
            gated.schedule = schedule
            await schedule.run(actors)
            gated.schedule = None
        state = {}
        for place in {key} | {effect.key for effect in gated.log if effect.key}:
            record = await inner.get(place)
            if record is not None:
                state[place] = record.data
        if self.version_3:
            return judge_by_outcome(one, sid, requests, gated.log, state), gated.log
        if self.renewal:
            verdict = judge_by_outcome(one, sid, requests, gated.log, state)
            await judge_ids(one, sid, requests, verdict)
            return verdict, gated.log
        judge = Judge(one, key, document, requests, DUE if refresh else NOT_DUE)
        return judge.judge(gated.log, state), gated.log

    def _actor(
        self,
        name: str,
        request: Request,
        interface: SessionInterface,
        gated: GatedStore,
        sid: str,
        key: str,
    ) -> Callable[[], Any]:
        operation = OPERATIONS[name]

        async def vanish() -> None:
            await gated.outside("vanish", key, lambda: gated.inner.delete(key))

        async def expire() -> None:
            async def pass_time() -> None:
                assert self.pass_time is not None
                self.pass_time(gated.inner, 10 * ABSOLUTE_LIFETIME)

            await gated.outside("expire", key, pass_time)

        async def serve() -> None:
            try:
                address = ELSEWHERE if request.elsewhere else HOME
                session = await interface.open_session(self.app, self._request(sid, address))
                request.seen.append(deepcopy(dict(session)))
                if operation.before is not None:
                    await operation.before(session)
                    request.seen.append(deepcopy(dict(session)))
                for number, stage in enumerate(operation.stages):
                    if number:
                        await session.save()
                    request.intents.append(stage(session, ACTOR.get()))
                if self.dirty:
                    session.dirty()
                response = Response("")
                await interface.save_session(self.app, session, response)
                request.cookies = response.headers.getlist("Set-Cookie")
            except asyncio.CancelledError:
                raise
            except Exception as error:
                request.error = error
            gated.end()

        return {"": serve, "vanish": vanish, "expire": expire}[operation.outside]

    def _request(self, sid: str, address: str) -> Any:
        return self.app.request_class(
            "GET",
            "http",
            "/",
            b"",
            Headers({"Remote-Addr": address, "Cookie": f"session={sid}", "Host": "localhost"}),
            "",
            "1.1",
            {"client": ("127.0.0.1", 1), "type": "http"},  # type: ignore[arg-type]
            send_push_promise=_no_push,
        )


async def _no_push(path: str, headers: Headers) -> None: ...


def _data(document: dict[Any, Any]) -> dict[Any, Any]:
    """What the application sees of it."""
    return {k: v for k, v in document.items() if k not in ("_permanent", "_addr")}


def is_empty(document: dict[Any, Any]) -> bool:
    return not _data(document)


class Judge:
    """Goes through what happened, step by step, and does the same to a dict."""

    def __init__(
        self,
        interface: SessionInterface,
        key: str,
        document: dict[Any, Any],
        requests: list[Request],
        left: float,
    ) -> None:
        self.interface = interface
        self.verdict = Verdict()
        self.requests = requests
        self.old = key
        self.created = document["_qs"]["created"]

        # The one session that all requests began with …
        self.key: str | None = key
        self.document = {name: value for name, value in document.items() if name != "_qs"}
        self.vacant = False
        """Whether its last key was taken out, which leaves room for what others add."""
        self.ended_by_request = False
        # … what began after its end …
        self.others: dict[str, dict[Any, Any]] = {}
        # … and what lies in the store, and for how many seconds.
        self.state: dict[str, bytes] = {key: codec.dumps(document)}
        self.left = {key: left}

    def judge(self, log: list[Effect], state: dict[str, bytes]) -> Verdict:
        """
        :param log: what happened, in order.
        :param state: what lies in the store now.
        """
        for request in self.requests:
            request.intents = [intent for intent in request.intents if intent]
        for effect in log:
            step = getattr(self, f"on_{effect.call}")
            step(effect, self.requests[effect.actor])
        if state != self.state:
            self.verdict.add(STRANGE, "the store holds something else than what was written to it")
        for key, data in self.state.items():
            if data in REMAINS:
                if self.left[key] > MARKER_LIFE:
                    self.verdict.add(LATER, "a marker was given a long life")
            elif key != self.key and key not in self.others:
                self.verdict.add(LEFT_OVER, f"…{key[-4:]}")
        if self.key is not None and (left := self._decode(self.state.get(self.key))) is not None:
            if left != self.document:
                self.verdict.add(LOST, f"{left} in place of {self.document}")
        elif self.key is not None and not self.vacant:
            self.verdict.add(LOST, "the session is gone, and nobody ended it")
        return self.verdict

    def _decode(self, data: bytes | None) -> dict[Any, Any] | None:
        if data is None or data in REMAINS:
            return None
        try:
            document = codec.loads(data)
            metadata = document.pop("_qs")
            if metadata.keys() != {"created"}:
                raise ValueError(metadata)
        except Exception as error:
            self.verdict.add(PARTIAL, f"{data!r}: {error!r}")
            return None
        return document

    def on_vanish(self, effect: Effect, me: Request) -> None:
        if self.key == self.old:
            self.key = None
        self.state.pop(self.old, None)
        self.ended_by_request = self.vacant = False

    def on_expire(self, effect: Effect, me: Request) -> None:
        self.key = None
        self.state.clear()
        self.others.clear()
        self.ended_by_request = self.vacant = False

    def on_get(self, effect: Effect, me: Request) -> None:
        if me.touched or me.answer == effect.key:  # looks whether what it names is alive
            gone = self.state.get(effect.key, MARKER) in REMAINS
            me.answer = None if gone else effect.key
        elif me.loaded is None:
            me.loaded = self.key == self.old and not self.vacant and not me.elsewhere
            me.superseded = self.ended_by_request or self.vacant
            me.due = self.left[self.old] < 0.9 * LEFT
            expected = _data(self.document) if me.loaded else {}
            if me.seen and me.seen[0] != expected:
                kind = LOOK if me.loaded else REVIVED
                self.verdict.add(kind, f"saw {me.seen[0]}, and there was {expected}")
        elif len(me.seen) == 2 and not me.reloaded:
            me.reloaded = True
            if not me.loaded:
                return
            me.gone = self.key != self.old or self.vacant
            me.due = self.left[self.old] < 0.9 * LEFT
            expected = {} if me.gone else _data(self.document)
            if me.seen[1] != expected:
                self.verdict.add(LOOK, f"reloaded {me.seen[1]}, and there was {expected}")

    def on_touch(self, effect: Effect, me: Request) -> None:
        if not effect.result:
            return
        me.touched = True
        self._check_life(effect, self.state.get(effect.key, b""), touch=True)
        self.left[effect.key] = effect.ttl
        if self.state.get(effect.key) not in REMAINS:
            me.answer = effect.key

    def _check_life(self, effect: Effect, data: bytes, touch: bool = False) -> None:
        if data in REMAINS and not touch:
            most = MARKER_LIFE
        elif effect.key in self.others:
            most = ABSOLUTE_LIFETIME
        else:
            most = LEFT + 1
        if effect.ttl > most:
            self.verdict.add(LATER, f"{effect.ttl} s where {most} are left")

    def on_delete(self, effect: Effect, me: Request) -> None:
        if isinstance(effect.result, Conflict):
            return
        if me.elsewhere and effect.key not in self.state:  # another one has just done it
            return
        if effect.key == me.pending:
            me.pending = None
        elif effect.key == self.key and me.elsewhere:
            self.key = None  # without a word to its owner
            self.ended_by_request = False
        elif effect.key == self.key:  # as good as a marker, for what it says about this session
            self._end(me)
        else:
            self.verdict.add(STRANGE, f"delete {effect}")
        self.state.pop(effect.key, None)

    def on_set(self, effect: Effect, me: Request) -> None:
        if isinstance(effect.result, Conflict):
            there = effect.result.record
            me.met_vacancy |= there is not None and there.data == VACANT
            if effect.key == self.key and there is not None and there.data == effect.data:
                # Others did the same.
                if effect.data == VACANT:
                    me.done += 1
                elif effect.data != MARKER:
                    self._update(effect, self._decode(effect.data) or {}, me)
            return
        before = self.state.get(effect.key)
        self.state[effect.key] = effect.data
        self.left[effect.key] = effect.ttl
        if effect.data in REMAINS:
            self._check_life(effect, effect.data)
            if before == effect.data and me.touched:
                return  # what remains gets back the life that it had before the touch
            if effect.data == VACANT and effect.key == self.key:
                self._vacate(me)
            elif effect.key == self.key:
                self._end(me)
            elif effect.key == me.outgrown:
                del self.others[effect.key]
            elif effect.key == me.own_key and me.intent.destroy:
                del self.others[effect.key]
                me.answer = "remove"
                me.done += 1
            else:
                self.verdict.add(STRANGE, f"a marker where nothing was: {effect}")
            return

        document = self._decode(effect.data)
        if document is None:
            return
        if is_empty(document):
            self.verdict.add(STRANGE, "an empty session was stored")
        if effect.key == self.key:
            self._update(effect, document, me)
        elif effect.key == self.old:
            self.verdict.add(REVIVED, f"{effect}")
        elif me.loaded and me.intent.regenerate:
            me.pending = effect.key
        elif me.loaded is False and me.superseded and not me.intent.regenerate:
            self.verdict.add(REVIVED, f"a late request began a new session: {effect}")
        elif me.loaded is False or (me.removed and me.intent.sets):
            self._begin(effect, document, me)
        else:
            self.verdict.add(STRANGE, f"{effect}")
        self._check_life(effect, effect.data)

    def _begin(self, effect: Effect, document: dict[Any, Any], me: Request) -> None:
        """A session that this request began, or goes on with."""
        self._check_created(effect, new=True)
        before = self.others.get(me.own_key or "", {})
        expected = me.intent.apply(before)
        if _data(document) != _data(expected):
            self.verdict.add(LOST, f"a new session holds {document}, not {expected}")
        self.others[effect.key] = document
        me.outgrown, me.own_key = me.own_key, effect.key
        me.answer = effect.key
        me.done += 1

    def _check_created(self, effect: Effect, new: bool = False) -> None:
        created = codec.loads(effect.data)["_qs"]["created"]
        if (created <= self.created) if new else (created != self.created):
            self.verdict.add(LATER, f"the session began {created - self.created} s later")

    def _update(self, effect: Effect, document: dict[Any, Any], me: Request) -> None:
        """A write to the session as it is."""
        self._check_created(effect)
        if not me.intent:
            self.verdict.add(READ_WROTE, f"{effect}")
        expected = me.intent.apply(self.document)
        if not self._same(document, expected):
            self.verdict.add(LOST, f"{document} was written over {self.document}")
        extended = me.due and document["_permanent"]
        if me.met_vacancy or extended or "_permanent" in me.intent.sets:
            me.answer = effect.key
        self.document = document
        self.vacant = False
        me.done += bool(me.intent)

    def _same(self, one: dict[Any, Any] | None, other: dict[Any, Any]) -> bool:
        if self.vacant and one is not None:  # what is reserved begins anew, too
            return _data(one) == _data(other)
        return one == other

    def _vacate(self, me: Request) -> None:
        """The last key was taken out of the session."""
        self.document = me.intent.apply(self.document)
        if not is_empty(self.document) or me.intent.clear or me.intent.destroy:
            self.verdict.add(LOST, f"the session was emptied, and it held {self.document}")
        self.vacant = True
        me.answer = "remove"
        me.done += 1

    def _end(self, me: Request) -> None:
        """The session's record was replaced by a marker."""
        self.ended_by_request = True
        left = me.intent.apply(self.document)
        ended = me.intent.destroy or is_empty(left)
        if self.vacant and ended and not me.intent.regenerate:
            self.key = None  # there was nothing to destroy
        elif ended:
            self.key = None
            me.removed = True
            me.answer = "remove"
            if not (me.intent.destroy and me.intent.sets):
                me.done += 1
        elif me.intent.regenerate and me.pending is not None:
            stored = self._decode(self.state.get(me.pending))
            if not self._same(stored, left):
                self.verdict.add(LOST, f"the new id has {stored} and not {left}")
            else:
                self._check_created(Effect(0, "", data=self.state[me.pending]))
            self.key, me.answer = me.pending, me.pending
            self.document = stored or left
            me.pending = None
            me.done += 1
        else:
            self.key = None
            self.verdict.add(LOST, "a session was ended that nobody wanted to end")

    def on_end(self, effect: Effect, me: Request) -> None:
        """The request is over, and the browser has its response."""
        if me.error is not None:
            self.verdict.add(FAILED, repr(me.error))
            return
        lost = me.intent
        if lost:
            me.answer = None
            excused = me.loaded or me.superseded or (me.own_key and me.own_key not in self.others)
            goes_on = self.key == self.old and not me.superseded and not me.gone
            if me.removed or goes_on or not excused:
                self.verdict.add(LOST, f"{lost} was not saved, and the session goes on")
        needed = int(bool(lost) and lost != Intent(destroy=True) and not me.gone)
        if me.drops != needed:
            self.verdict.add(SIGNAL, f"{me.drops} of a dropped write, expected {needed}")
        told = self._told(me)
        if told != me.answer:
            self.verdict.add(COOKIE, f"{told} in place of {me.answer}")

    def _told(self, me: Request) -> str | None:
        """What the response said: "remove", the key of the session's record, or nothing."""
        if len(me.cookies) > 1:
            self.verdict.add(COOKIE, f"{len(me.cookies)} at once")
        for cookie in me.cookies:
            sid = cookie.partition("=")[2].partition(";")[0]
            return self.interface.records.keys_of(sid)[0] if sid else "remove"
        return None


def judge_by_outcome(
    interface: SessionInterface,
    sid: str,
    requests: list[Request],
    log: list[Effect],
    state: dict[str, bytes],
) -> Verdict:
    """Compare with all results of the same requests one after another.

    A session of version 3, or one that is renewed, lies under more than one key, so that no single
    record tells when a request took effect.
    """
    verdict = Verdict()
    for request in requests:
        if request.error is not None:
            verdict.add(FAILED, repr(request.error))

    possible: list[dict[Any, Any] | None] = []
    for order in permutations(requests):
        document: dict[Any, Any] | None = dict(INITIAL)
        renewed: dict[Any, Any] | None = None
        for request in order:
            for intent in request.intents:
                if document is None or (not document and not request.seen[-1]):
                    continue  # it ended, or was emptied, before this request asked for it
                document = intent.apply(document)
                if intent.destroy:
                    document = None
                elif intent.regenerate:
                    document, renewed = None, document
        possible.append(renewed or document or None)

    left = {key: codec.loads(data) for key, data in state.items() if not is_left_over(data)}
    if len(left) > 1:
        verdict.add(LEFT_OVER, f"{len(left)} records of one session")
    found = next((_data(document) for document in left.values()), {})
    found.pop("_qs", None)
    if (found or None) not in possible:
        verdict.add(LOST, f"{found} is none of {possible}")

    renewed_ids = interface.config.renew_after is not None
    keys = state.keys() if renewed_ids else interface.records.keys_of(sid)
    over = False
    there: dict[str, bytes] = {interface.records.keys_of(sid)[-1]: b""}
    for effect in log:
        me = requests[effect.actor]
        if isinstance(effect.result, Conflict):
            continue
        if effect.call == "set":
            there[effect.key] = effect.data
        elif effect.call == "delete":
            there.pop(effect.key, None)
        if effect.call == "end":
            for told in _ids_told(me):
                if not any(
                    not is_left_over(there.get(key, MARKER))
                    for key in interface.records.keys_of(told)
                ):
                    verdict.add(COOKIE, "the response names an id that leads nowhere")
            over = over or any(cookie.startswith("session=;") for cookie in me.cookies)
            if me.cookies and not me.cookies[0].startswith(("session=;", f"session={sid}")):
                over = over or not renewed_ids  # a new id
        elif (
            (over and effect.call == "get" and effect.key in keys)
            and effect.result is not None
            and not is_left_over(effect.result.data)
        ):
            verdict.add(REVIVED, f"{effect}")
    return verdict


def _ids_told(request: Request) -> list[str]:
    """The session ids that a response gives the browser."""
    told = [cookie.partition("=")[2].partition(";")[0] for cookie in request.cookies]
    return [sid for sid in told if sid]


async def judge_ids(
    interface: SessionInterface, sid: str, requests: list[Request], verdict: Verdict
) -> None:
    """Unless somebody logged in or out, each id that a browser may hold leads to the session."""
    intents = [intent for request in requests for intent in request.intents]
    if any(intent.regenerate or intent.destroy or intent.clear for intent in intents):
        return
    if any(cookie.startswith("session=;") for one in requests for cookie in one.cookies):
        return
    told = {sid for one in requests for sid in _ids_told(one)}
    if not told:
        verdict.add(COOKIE, "nobody was told the new id")
    found = {await interface.records.look_up(one) for one in (sid, *told)}
    if len({one and one.key for one in found}) > 1 or not all(
        one is not None and is_alive(one.record) for one in found
    ):
        verdict.add(COOKIE, f"the ids lead to {found}")
