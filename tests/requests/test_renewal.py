"""SESSION_RENEW_AFTER: an active session gets a new id every so often."""

import anyio
import pytest

from quart_session import StoreError, remains
from quart_session.serializer import TaggedJSONSerializer
from quart_session.stores.base import Conflict

pytestmark = pytest.mark.anyio

RENEW_AFTER = 600


@pytest.fixture
async def site(new_site):
    site = new_site(SESSION_RENEW_AFTER=RENEW_AFTER)
    await site.visit(lambda session: session.update(user="ada", cart=["tea"]))
    await grow_old(site)
    return site


async def grow_old(site, seconds=RENEW_AFTER + 10):
    """Let the session have had its id for so many seconds more."""
    [key] = site.interface.records.keys_of(site.cookie())
    record = await site.store.inner.get(key)
    document = TaggedJSONSerializer().loads(record.data)
    for name in ("created", "renewed"):
        if name in document["_qs"]:
            document["_qs"][name] -= seconds
    data = TaggedJSONSerializer().dumps(document)
    # Not what the record says is left: memcached, which rounds that up, would round it up twice.
    life = site.app.permanent_session_lifetime.total_seconds()
    answer = await site.store.inner.set(key, data, life, record.version)
    assert not isinstance(answer, Conflict)


def browser_with(site, sid):
    return {
        "client": site.app.test_client(use_cookies=False),
        "headers": {"Cookie": f"session={sid}"},
    }


def old_browser(site):
    """A browser that goes on with the id that the site's browser has now."""
    return browser_with(site, site.cookie())


async def seen_by(site, browser):
    seen = {}
    await site.visit(seen.update, **browser)
    return seen


async def test_a_read_gets_a_new_id_and_keeps_the_data(site):
    old = site.cookie()
    response = await site.visit(lambda session: session["user"])
    assert site.cookie() != old
    assert site.cookie() in response.headers["Set-Cookie"]
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


async def test_a_write_gets_a_new_id_too(site):
    old = site.cookie()
    await site.visit(lambda session: session["cart"].append("milk"))
    assert site.cookie() != old
    assert await site.look() == {"user": "ada", "cart": ["tea", "milk"]}


async def test_the_new_id_is_not_renewed_at_once(site):
    await site.visit()
    new = site.cookie()
    await site.visit(lambda session: session["user"])
    assert site.cookie() == new
    assert site.store.calls == ["get"]


async def test_a_renewed_session_is_renewed_again_when_its_time_has_come(site):
    await site.visit()
    first = site.cookie()
    await grow_old(site)
    await site.visit()
    assert site.cookie() != first


async def test_the_time_of_creation_stays(site):
    times = []
    await site.visit(lambda session: times.append(session.created_at))
    await site.visit(lambda session: times.append(session.created_at))
    assert times[0] == times[1] is not None


async def test_requests_with_the_old_id_read_and_write_the_same_session(site):
    late = old_browser(site)
    await site.visit()
    assert await seen_by(site, late) == {"user": "ada", "cart": ["tea"]}
    await site.visit(lambda session: session.update(late=True), **late)
    assert await site.look() == {"user": "ada", "cart": ["tea"], "late": True}


async def test_a_request_that_was_under_way_writes_to_the_same_session(site):
    late = old_browser(site)

    async def slow(session):
        await site.visit(lambda session: session.update(fast=True))
        session["slow"] = True

    await site.visit(slow, **late)
    assert await site.look() == {"user": "ada", "cart": ["tea"], "fast": True, "slow": True}


async def test_a_request_that_was_under_way_and_changes_nothing_does_no_harm(site):
    late = old_browser(site)

    async def slow(session):
        await site.visit(lambda session: session["user"])

    response = await site.visit(slow, **late)
    assert site.cookie() in response.headers["Set-Cookie"]
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


async def test_a_browser_that_lost_the_response_gets_the_new_id_again(site):
    late = old_browser(site)
    await site.visit()
    response = await site.visit(lambda session: session["user"], **late)
    assert f"session={site.cookie()}" in response.headers["Set-Cookie"]


async def test_the_old_id_is_dead_after_the_grace(site, monkeypatch):
    monkeypatch.setattr(remains, "GRACE", 0.05)
    late = old_browser(site)
    await site.visit()
    await anyio.sleep(0.06)
    assert await seen_by(site, late) == {}
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


def test_the_grace_is_half_a_minute_at_most():
    assert remains.GRACE <= 30


async def test_the_store_does_not_tell_the_new_id(site):
    old = site.cookie()
    await site.visit()
    [key] = site.interface.records.keys_of(old)
    record = await site.store.inner.get(key)
    assert record.expires_in is None or record.expires_in <= remains.GRACE
    assert site.cookie().encode() not in record.data
    assert remains.renewed_id(record.data, old) == site.cookie()
    assert remains.renewed_id(record.data, site.cookie()) != site.cookie()


async def test_a_login_has_no_grace(site):
    late = old_browser(site)
    await site.visit(lambda session: session.regenerate())
    assert await seen_by(site, late) == {}


async def test_a_login_ends_what_the_old_id_led_to(site):
    late = old_browser(site)
    await site.visit()
    await site.visit(lambda session: session.regenerate())
    response = await site.visit(lambda session: session.update(late=True), **late)
    assert "Set-Cookie" not in response.headers
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


async def test_a_logout_with_the_old_id_ends_the_session(site):
    late = old_browser(site)
    await site.visit()
    await site.visit(lambda session: session.destroy(), **late)
    assert await site.look() == {}


async def test_a_logout_that_was_under_way_ends_the_session(site):
    late = old_browser(site)

    async def slow(session):
        await site.visit()
        session.destroy()

    await site.visit(slow, **late)
    assert await site.look() == {}
    assert await seen_by(site, late) == {}


async def test_a_login_that_was_under_way_leaves_one_session(site):
    late = old_browser(site)
    told = {}

    async def slow(session):
        await site.visit(lambda session: session.update(fast=True))
        session.regenerate()
        told["sid"] = session.sid

    await site.visit(slow, **late)
    assert await site.look() == {}
    assert await seen_by(site, browser_with(site, told["sid"])) == {
        "user": "ada",
        "cart": ["tea"],
        "fast": True,
    }


async def test_a_request_that_is_to_save_nothing_saves_nothing(site):
    def refuse(session):
        session.clear()
        session["user"] = "bob"
        session.modified = False

    old = site.cookie()
    await site.visit(refuse)
    assert site.cookie() == old
    assert site.store.calls == ["get"]


async def test_a_websocket_keeps_the_id(site):
    from quart import session

    @site.app.websocket("/ws")
    async def ws():
        from quart import websocket

        session["ws"] = True
        await websocket.send(session["user"])

    old = site.cookie()
    async with site.client.websocket("/ws") as connection:
        assert await connection.receive() == "ada"
    assert site.cookie() == old


async def test_a_websocket_has_no_session_after_the_grace(site, monkeypatch):
    from quart import session, websocket

    @site.app.websocket("/ws")
    async def ws():
        await websocket.send("ready")
        await websocket.receive()
        await session.reload()
        await websocket.send(repr(dict(session)))

    monkeypatch.setattr(remains, "GRACE", 0.05)
    async with site.client.websocket("/ws") as connection:
        assert await connection.receive() == "ready"
        await site.client.get("/")
        await anyio.sleep(0.1)
        await connection.send("?")
        assert await connection.receive() == "{}"
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


async def test_a_public_response_keeps_the_id(site):
    from quart import Response

    old = site.cookie()
    response = await site.visit(lambda session: Response(headers={"Cache-Control": "public"}))
    assert "Set-Cookie" not in response.headers
    assert site.cookie() == old


async def test_a_renewal_that_fails_harms_no_request_that_only_reads(site, monkeypatch, caplog):
    async def fail(*args):
        raise StoreError("the backend is tired")

    old = site.cookie()
    with monkeypatch.context() as patch:
        patch.setattr(site.store.inner, "set", fail)
        response = await site.visit(lambda session: session["user"])
    assert response.status_code == 200
    assert "the backend is tired" in caplog.text
    assert site.cookie() == old
    assert await site.look() == {"user": "ada", "cart": ["tea"]}


async def test_twenty_requests_at_once_agree_on_one_new_id(site):
    late = old_browser(site)
    told = set()

    async def one(n):
        response = await site.client.get(f"/{n}")
        told.update(response.headers.getlist("Set-Cookie"))

    async def change(session):
        from quart import request

        await anyio.sleep(0.01)
        session[request.path] = True

    site.action = change
    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(one, n)
    assert len({cookie.partition(";")[0] for cookie in told}) == 1
    assert set(await site.look()) == {"user", "cart", *(f"/{n}" for n in range(20))}
    assert set(await seen_by(site, late)) == {"user", "cart", *(f"/{n}" for n in range(20))}


async def test_a_session_without_a_known_age_is_renewed(new_site):
    """As version 3 stored it."""
    site = new_site(SESSION_RENEW_AFTER=RENEW_AFTER)
    sid = "0f8fad5b-d9cb-4d9b-a165-70867728950e"
    await site.store.inner.set(site.interface.key_prefix + sid, b'{"user":"ada"}', 1000)
    site.client.set_cookie("localhost", "session", sid)
    assert await site.look() == {"user": "ada"}
    assert site.cookie() != sid
    assert await site.look() == {"user": "ada"}
    assert await seen_by(site, browser_with(site, sid)) == {"user": "ada"}
