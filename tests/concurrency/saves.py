"""What a request may do to its session, for tests that disturb it while it saves."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quart import Quart, Response
from werkzeug.datastructures import Headers

from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface
from quart_session.remains import is_alive
from quart_session.stores.base import Store

AGE = 500
"""Seconds since the session began."""

USER = "ada"
"""Whom a request binds the session to."""

OLD = {"user": "ada", "cart": ["tea"]}
NEW = {"user": "bob", "cart": ["tea", "milk"]}
THEIRS = {**OLD, "theirs": True}
MERGED = {**NEW, "theirs": True}


def change(session):
    session["user"] = "bob"
    session["cart"].append("milk")


def change_and_regenerate(session):
    change(session)
    session.regenerate()


def destroy_and_refill(session):
    session.destroy()
    session["bye"] = True


def bind(session):
    change(session)
    session.bind(USER)


def log_in(session):
    bind(session)
    session.regenerate()


@dataclass(frozen=True)
class Save:
    do: Callable[[Any], Any]
    possible: list[dict[str, Any] | None]
    """What the old id may lead to afterwards; the last one if nothing disturbed the save."""
    others: bool = False
    """Whether another request saves first."""
    others_renew: bool = False
    """Whether that request gives the session a new id, too."""
    renews: bool = False
    """Whether the session is old enough for a new id."""

    @property
    def regenerates(self) -> bool:
        return self.do in (change_and_regenerate, log_in)

    @property
    def binds(self) -> bool:
        return self.do in (bind, log_in)


def read(session):
    session.get("user")


def destroy(session):
    session.destroy()


SAVES = {
    "update": Save(change, [OLD, NEW]),
    "merge": Save(change, [THEIRS, MERGED], others=True),
    "regenerate": Save(change_and_regenerate, [OLD, None]),
    "regenerate and merge": Save(change_and_regenerate, [THEIRS, None], others=True),
    "renew": Save(read, [OLD], renews=True),
    "renew and update": Save(change, [OLD, NEW], renews=True),
    "renew and merge": Save(change, [THEIRS, MERGED], others=True, renews=True),
    "follow": Save(change, [THEIRS, MERGED], others=True, others_renew=True),
    "renew what was just renewed": Save(
        read, [THEIRS], others=True, others_renew=True, renews=True
    ),
    "regenerate what was just renewed": Save(
        change_and_regenerate, [THEIRS, None], others=True, others_renew=True
    ),
    "destroy what was just renewed": Save(destroy, [THEIRS, None], others=True, others_renew=True),
    "bind": Save(bind, [OLD, NEW]),
    "bind and merge": Save(bind, [THEIRS, MERGED], others=True),
    "bind and renew": Save(bind, [OLD, NEW], renews=True),
    "log in": Save(log_in, [OLD, None]),
    "destroy": Save(destroy, [OLD, None]),
    "destroy what changed": Save(destroy, [THEIRS, None], others=True),
    "destroy and refill": Save(destroy_and_refill, [OLD, None]),
    "destroy what is to be renewed": Save(destroy, [OLD, None], renews=True),
    "clear": Save(lambda session: session.clear(), [THEIRS, None], others=True),
    "delete every key": Save(lambda session: [session.pop(key) for key in OLD], [OLD, None]),
}


class Browsers:
    """Requests with the session id that they are given."""

    def __init__(self, app: Quart, store: Store) -> None:
        self.app = app
        self.store = store
        self.prefix = f"{uuid.uuid4().hex}:"
        self.interface = self.make_interface()

    def make_interface(self, **settings: Any) -> SessionInterface:
        return SessionInterface(
            self.store, SessionConfig(key_prefix=self.prefix, timeout=5, **settings)
        )

    async def open(self, sid: str | None = None, renews: bool = False) -> Any:
        headers = Headers({"Host": "localhost"})
        if sid is not None:
            headers["Cookie"] = f"session={sid}"
        request = self.app.request_class(
            "GET", "http", "/", b"", headers, "", "1.1", {}, send_push_promise=_no_push
        )
        interface = self.make_interface(renew_after=AGE / 2) if renews else self.interface
        return await interface.open_session(self.app, request)

    async def save(self, session: Any) -> Response:
        response = Response("")
        await session._home[0].save_session(self.app, session, response)
        return response

    async def prepare(self, save: Save) -> tuple[str, Any]:
        """A stored session's id, and the session as a request has changed it."""
        sid = await self.begin()
        session = await self.open(sid, save.renews)
        session.get("user")
        if save.others:
            other = await self.open(sid, save.others_renew)
            other["theirs"] = True
            await self.save(other)
        save.do(session)
        return sid, session

    async def begin(self) -> str:
        """Store a session; return its id."""
        session = await self.open()
        session.update(OLD)
        session._describe(created=int(time.time()) - AGE)
        await self.save(session)
        return session.sid

    async def look(self, sid: str) -> dict[str, Any] | None:
        """What a request with *sid* finds."""
        found = await self.interface.records.look_up(sid)
        if found is None or not is_alive(found.record):
            return None
        document = self.interface.records.decode(found.record.data)
        return {key: value for key, value in document.items() if not key.startswith("_")}

    async def present_id(self, sid: str) -> str | None:
        """The id that the session of *sid* has now."""
        found = await self.interface.records.look_up(sid)
        return None if found is None else found.sid

    async def check_index(self, *sids: str) -> None:
        """Of these sessions each that is bound to the user is in his index."""
        bound = set()
        for sid in sids:
            found = await self.interface.records.look_up(sid)
            if found is not None and is_alive(found.record):
                document = self.interface.records.decode(found.record.data)
                if document["_qs"].get("user") == USER:
                    bound.add(found.key)
        if bound:
            assert bound <= {noted.key for noted in await self.interface.users.alive(USER)}

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
