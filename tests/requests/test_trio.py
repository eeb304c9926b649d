"""Sessions of a QuartTrio application."""

import pytest
import trio
from backends import BACKENDS, TRIO, make_store
from quart import Quart, session, websocket
from quart_trio import QuartTrio

from quart_session import ConfigError, Session
from quart_session.redis_trio import RedisTrio
from quart_session.stores.redis import RedisStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio"


@pytest.fixture(params=TRIO)
async def store(request, tmp_path):
    store = make_store(BACKENDS[request.param](request, tmp_path), timeout=5, trio=True)
    yield store
    await store.close()


@pytest.fixture
async def site(new_site, tmp_path):
    return new_site(QuartTrio(__name__, instance_path=str(tmp_path)))


async def test_a_nested_change_is_saved(site):
    await site.visit(lambda session: session.update(cart=["tea"]))
    await site.visit(lambda session: session["cart"].append("milk"))
    assert await site.look() == {"cart": ["tea", "milk"]}
    await site.visit(lambda session: session.clear())
    assert await site.look() == {}


async def test_twenty_concurrent_browsers_keep_their_data(site):
    @site.app.post("/be/<name>")
    async def be(name):
        session["name"] = name
        return name

    @site.app.get("/who")
    async def who():
        return session["name"]

    async def browse(name):
        browser = site.app.test_client()
        await browser.post(f"/be/{name}")
        for _ in range(5):
            response = await browser.get("/who")
            assert await response.get_data(as_text=True) == name

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(browse, f"browser {number}")


async def test_a_websocket_saves_when_the_browser_disconnects(site):
    @site.app.websocket("/ws")
    async def listen():
        while True:
            session["seen"].append(await websocket.receive())
            await websocket.send("ok")

    await site.visit(lambda session: session.update(seen=[]))
    async with site.client.websocket("/ws") as connection:
        await connection.send("hello")
        await connection.receive()
    with trio.fail_after(5):
        while (await site.look())["seen"] != ["hello"]:  # noqa: ASYNC110 -- no event tells
            await trio.sleep(0.01)


@pytest.mark.parametrize("name", ["redis", "redis+trio"])
def test_redis_goes_by_both_names_of_version_3(name):
    app = QuartTrio(__name__)
    app.config["SESSION_TYPE"] = name
    Session(app)
    assert isinstance(app.session_interface.backend, RedisTrio)


def test_the_name_with_trio_is_refused_without_trio():
    app = Quart(__name__)
    app.config["SESSION_TYPE"] = "redis+trio"
    with pytest.raises(ConfigError, match=r"'redis\+trio' is for QuartTrio; use 'redis'"):
        Session(app)


def test_a_store_that_needs_asyncio_is_refused():
    app = QuartTrio(__name__)
    app.config["SESSION_TYPE"] = RedisStore()
    with pytest.raises(ConfigError, match="does not run under Trio"):
        Session(app)
