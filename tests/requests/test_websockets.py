"""Sessions in websockets: loaded at the start, saved at the end, however it ends."""

import asyncio

import pytest
from quart import copy_current_websocket_context, session, websocket

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(new_site):
    site = new_site()
    await site.visit(lambda session: session.update(user="ada", seen=[]))
    return site


async def talk(site, handler, message="hello", client=None):
    """Connect, send *message*, and disconnect after one answer."""
    path = f"/ws{len(site.app.view_functions)}"
    site.app.websocket(path)(handler)
    site.store.calls.clear()
    async with (client or site.client).websocket(path) as connection:
        await connection.send(message)
        answer = await connection.receive()
        await asyncio.sleep(0)
    return answer


def no_routing_lock(app):
    app._got_first_request = False


@pytest.fixture(autouse=True)
def allow_late_routes(site):
    """Each test adds its handler after the first request."""
    no_routing_lock(site.app)


async def test_the_session_of_the_browser_is_there(site):
    async def handler():
        await websocket.receive()
        await websocket.send(session["user"])

    assert await talk(site, handler) == "ada"
    assert site.store.calls == ["get"]


async def test_a_change_is_saved_when_the_handler_returns(site):
    async def handler():
        session["seen"].append(await websocket.receive())
        await websocket.send("ok")

    await talk(site, handler)
    assert (await site.look())["seen"] == ["hello"]


async def test_a_change_is_saved_once_when_the_browser_disconnects(site):
    async def handler():
        session["seen"].append(await websocket.receive())
        await websocket.send("ok")
        await websocket.receive()

    await talk(site, handler)
    assert site.store.calls == ["get", "set"]
    assert (await site.look())["seen"] == ["hello"]


async def test_a_change_is_saved_when_the_handler_raises(site):
    async def handler():
        session["seen"].append(await websocket.receive())
        await websocket.send("ok")
        raise RuntimeError("boom")

    site.app.config["PROPAGATE_EXCEPTIONS"] = False
    await talk(site, handler)
    assert (await site.look())["seen"] == ["hello"]


async def test_a_handler_that_raises_leaves_no_record_of_a_new_session(site):
    async def handler():
        session["seen"] = [await websocket.receive()]
        await websocket.send("ok")
        raise RuntimeError("boom")

    site.app.config["PROPAGATE_EXCEPTIONS"] = False
    await talk(site, handler, client=site.app.test_client())
    assert site.store.calls == []


async def test_a_task_with_a_copy_of_the_context_does_not_end_it(site, caplog):
    async def handler():
        @copy_current_websocket_context
        async def task():
            session["seen"].append("task")

        await task()
        session["after"] = await websocket.receive()
        await websocket.send("ok")

    await talk(site, handler)
    assert await site.look() == {"user": "ada", "seen": ["task"], "after": "hello"}
    assert caplog.messages == []


async def test_emptying_the_session_deletes_the_record(site):
    async def handler():
        await websocket.receive()
        session.clear()
        await websocket.send("ok")

    await talk(site, handler)
    assert await site.look() == {}


async def test_a_new_session_is_not_stored_since_no_cookie_can_be_set(site, caplog):
    async def handler():
        session["seen"] = [await websocket.receive()]
        await websocket.send("ok")

    await talk(site, handler, client=site.app.test_client())
    assert site.store.calls == []
    assert caplog.messages == ["A new session is lost, since no cookie can be set here"]


async def test_a_failed_save_after_a_disconnect_is_logged(site, caplog):
    async def handler():
        session["bad"] = object()
        await websocket.send("ok")
        await websocket.receive()

    await talk(site, handler)
    assert "session['bad']" in caplog.text
    assert await site.look() == {"user": "ada", "seen": []}
