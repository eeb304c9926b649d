"""A user's sessions are revoked or limited while requests use them, in every order of the calls."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from quart import Quart, Response
from scheduling import GatedStore, Schedule, explore
from stages import memory
from werkzeug.datastructures import Headers

from quart_session._hotpath import new_sid
from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface
from quart_session.serializer import TaggedJSONSerializer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

codec = TaggedJSONSerializer()

AGE = 500

Action = Callable[[Any], object]


async def _no_push(path: str, headers: Headers) -> None: ...


class Run:
    """One store, one user with one session, and a process for each actor."""

    def __init__(self, version_3: bool = False, **settings: Any) -> None:
        self.app = Quart(__name__)
        self.store = GatedStore(memory())
        self.config = SessionConfig(user_key="user", timeout=30, **settings)
        self.sid = str(uuid4()) if version_3 else new_sid()

    def interface(self) -> SessionInterface:
        return SessionInterface(self.store, self.config)

    async def prepare(self) -> None:
        interface = self.interface()
        key = interface.records.keys_of(self.sid)[-1]
        document = {"_qs": {"created": int(time.time()) - AGE}, "user": "ada"}
        await interface.users.add("ada", key, {"address": "", "agent": ""}, 1000)
        await self.store.inner.set(key, codec.dumps(document), 1000)

    def request(self, action: Action, sid: str | None = None) -> Callable[[], Awaitable[None]]:
        interface = self.interface()

        async def serve() -> None:
            headers = Headers({"Host": "localhost"})
            if sid is not None:
                headers["Cookie"] = f"session={sid}"
            request = self.app.request_class(
                "GET", "http", "/", b"", headers, "", "1.1", {}, send_push_promise=_no_push
            )
            session = await interface.open_session(self.app, request)
            if sid is None or session:
                action(session)
            await interface.save_session(self.app, session, Response(""))

        return serve

    def revocation(self) -> Callable[[], Awaitable[None]]:
        interface = self.interface()

        async def revoke() -> None:
            await interface.users.revoke_all(self.app, "ada", ())

        return revoke

    async def sessions(self) -> list[Any]:
        return await self.interface().users.alive("ada")

    async def records(self) -> list[dict[Any, Any]]:
        """All that is stored of the user, be it in the index or not."""
        documents = [codec.loads(row.data) for row in self.store.inner._rows.values()]
        return [document for document in documents if document.get("user") == "ada"]


async def run_in_every_order(
    make: Callable[[], Run],
    actors: Callable[[Run], list[Callable[[], Awaitable[None]]]],
    check: Callable[[Run], Awaitable[None]],
    tally: Callable[[str, int], None],
    most: int | None = None,
) -> None:
    count = 0

    async def run(schedule: Schedule) -> None:
        one = make()
        await one.prepare()
        one.store.schedule = schedule
        await schedule.run(actors(one))
        one.store.schedule = None
        await check(one)

    async for _ in explore(run, most):
        count += 1
    assert count > 1
    tally("schedules of a revocation", count)


IN_A_SESSION: dict[str, Action] = {
    "read": lambda session: session.get("user"),
    "set": lambda session: session.update(cart=["tea"]),
    "regenerate": lambda session: session.regenerate(),
    "regenerate and set": lambda session: (session.update(cart=["tea"]), session.regenerate()),
    "destroy": lambda session: session.destroy(),
}


@pytest.mark.parametrize(
    "settings",
    [{}, {"renew_after": AGE / 2}, {"version_3": True}],
    ids=["", "renewed", "of version 3"],
)
@pytest.mark.parametrize("action", IN_A_SESSION.values(), ids=IN_A_SESSION)
async def test_no_request_of_a_revoked_session_brings_it_back(action, settings, soak, tally):
    async def check(run: Run) -> None:
        assert await run.sessions() == []
        assert await run.records() == []

    await run_in_every_order(
        lambda: Run(**settings),
        lambda run: [run.request(action, run.sid), run.revocation()],
        check,
        tally,
        most=3000 if soak else 150,
    )


@pytest.mark.parametrize("other", ["set", "regenerate"])
async def test_no_two_requests_of_a_revoked_session_bring_it_back(other, soak, tally):
    async def check(run: Run) -> None:
        assert await run.records() == []

    await run_in_every_order(
        Run,
        lambda run: [
            run.request(IN_A_SESSION["regenerate and set"], run.sid),
            run.request(IN_A_SESSION[other], run.sid),
            run.revocation(),
        ],
        check,
        tally,
        most=3000 if soak else 150,
    )


@pytest.mark.parametrize("action", IN_A_SESSION.values(), ids=IN_A_SESSION)
async def test_a_later_revocation_finds_every_session(action, tally):
    """Whatever happened at the same time: the index names each session that there is."""

    async def check(run: Run) -> None:
        assert len(await run.sessions()) == len(await run.records())

    def log_in(session: Any) -> None:
        session["user"] = "ada"

    await run_in_every_order(
        Run,
        lambda run: [run.request(action, run.sid), run.request(log_in)],
        check,
        tally,
        most=150,
    )


@pytest.mark.parametrize("leave", ["unbind", "follow another user"])
@pytest.mark.parametrize("last", [{}, {"cart": ["tea"]}], ids=["last key", ""])
async def test_a_session_that_changes_hands_is_found_in_the_end(leave, last, tally):
    """One request takes the session from its user while another one gives it to him again."""

    async def check(run: Run) -> None:
        assert len(await run.sessions()) == len(await run.records())

    def take(session: Any) -> None:
        if leave == "unbind":
            session.pop("user", None)
        else:
            session["user"] = "bob"
        session.update(last)

    def give_back(session: Any) -> None:
        session["user"] = "ada"

    await run_in_every_order(
        Run,
        lambda run: [run.request(take, run.sid), run.request(give_back, run.sid)],
        check,
        tally,
    )


async def test_logins_at_once_leave_as_many_sessions_as_are_allowed(soak, tally):
    async def check(run: Run) -> None:
        assert len(await run.records()) == len(await run.sessions()) == 1

    def log_in(session: Any) -> None:
        session["user"] = "ada"

    await run_in_every_order(
        lambda: Run(max_per_user=1),
        lambda run: [run.request(log_in), run.request(log_in)],
        check,
        tally,
        most=3000 if soak else 150,
    )
