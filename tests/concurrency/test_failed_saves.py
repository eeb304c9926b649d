"""A backend that fails at any call of a save, with the call done or not, loses no session."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart, Response
from saves import MERGED, NEW, OLD, SAVES, THEIRS, Browsers, Save
from stages import memory

from quart_session import StoreError
from quart_session.stores.base import ANY, Store

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


class Failing(Store):
    """Fails at the call number *at*, counted from now on."""

    timely = True

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.at: int | None = None
        self.done = False
        """Whether the call that fails has an effect, as if its reply got lost."""
        self.lasting = False
        """Whether all calls after it fail as well."""
        self.failed = False

    def fail(self, at: int, how: str) -> None:
        self.at, self.failed = at, False
        self.done, self.lasting = how == "reply lost", how == "for good"

    def recover(self) -> None:
        self.at = None

    async def _pass(self, name: str, *args: Any) -> Any:
        if self.at is None:
            return await getattr(self.inner, name)(*args)
        fails = self.at == 0 or (self.lasting and self.failed)
        self.at -= 1
        if fails:
            self.failed = True
        if not fails or self.done:
            result = await getattr(self.inner, name)(*args)
        if fails:
            raise StoreError("the backend is tired")
        return result

    async def get(self, key):
        return await self._pass("get", key)

    async def set(self, key, data, ttl, expected=ANY):
        return await self._pass("set", key, data, ttl, expected)

    async def delete(self, key, expected=ANY):
        return await self._pass("delete", key, expected)

    async def touch(self, key, ttl):
        return await self._pass("touch", key, ttl)


@pytest.fixture
def store() -> Failing:
    return Failing(memory())


@pytest.fixture
def browsers(store) -> Browsers:
    return Browsers(Quart(__name__), store)


def after(save: Save) -> dict[str, Any] | None:
    """What the browser has in the end if all is well."""
    if save.regenerates:
        return MERGED if save.others else NEW
    return save.possible[-1]


async def serve(browsers: Browsers, session: Any) -> str | None:
    """Save as Quart does, with the error page if need be; the id that the browser is told."""
    try:
        response = await browsers.save(session)
    except StoreError:
        response = Response("")
        await session._home[0].save_session(browsers.app, session, response)
    cookies = response.headers.getlist("Set-Cookie")
    return cookies[0].partition("=")[2].partition(";")[0] if cookies else None


hows = pytest.mark.parametrize("how", ["once", "for good", "reply lost"])


@hows
@pytest.mark.parametrize("name", SAVES)
async def test_a_browser_still_has_its_session(browsers, store, name, how, tally):
    save = SAVES[name]
    at = 0
    while True:
        sid, session = await browsers.prepare(save)
        store.fail(at, how)
        told = await serve(browsers, session)
        store.recover()
        left = await browsers.look(sid if told is None else told) if told != "" else None
        before = THEIRS if save.others else OLD
        if how == "reply lost" and save.regenerates:
            assert left in (before, after(save), None)
        elif name == "destroy and refill":
            assert left in (before, {"bye": True}, None)
        else:
            assert left in (before, after(save))
        if told and left is not None:
            assert await browsers.present_id(told) == told
        await browsers.check_index(sid, session._ensure_sid())
        if not store.failed:
            break
        at += 1
    assert name == "destroy and refill" or left == after(save)
    tally(f"calls that failed in {name}", at)


TRIED_AGAIN = [
    name for name, save in SAVES.items() if not save.renews and name != "destroy and refill"
]
"""A websocket, say, which cannot get a new id, and where a new session is not stored."""


@hows
@pytest.mark.parametrize("name", TRIED_AGAIN)
async def test_a_save_that_failed_may_be_tried_again(browsers, store, name, how):
    save = SAVES[name]
    at = 0
    while True:
        _, session = await browsers.prepare(save)
        store.fail(at, how)
        try:
            await session.save()
        except StoreError:
            store.recover()
            if after(save) is not None:
                session["again"] = at
            await session.save()
        store.recover()
        if not store.failed:
            break
        left = await browsers.look(session._ensure_sid())
        whole = None if after(save) is None else {**after(save), "again": at}
        # Whether it was itself that had ended the old id, such a save cannot know.
        assert left == whole or (left is None and save.regenerates and how == "reply lost")
        await browsers.check_index(session._ensure_sid())
        at += 1
    assert at
