"""An application written against version 3.0.0. Run it with the URL of a server of Redis or
memcached; it prints what it saw.

It uses what that version's README shows: a session, the backend as a cache, ``Session(app)`` in
``before_serving`` with a client of its own, and the address that the session carries.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from aiomcache import Client
from markupsafe import Markup
from quart import Quart, session
from redis import asyncio as aioredis

from quart_session import Session
from quart_session.sessions import SessionInterface

LOGIN = {
    "user": "ada",
    "cart": [{"item": "tea", "count": 2}],
    "pair": (1, (2, 3)),
    "raw": b"\x00\xff",
    "html": Markup("<b>hi</b>"),
    "id": UUID(int=7),
    "since": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


def create_app(url: str, settings: dict, own_client: bool) -> Quart:
    app = Quart(__name__)
    server = urlsplit(url)
    app.config["SESSION_TYPE"] = server.scheme
    app.config.update(settings)

    if own_client:

        @app.before_serving
        async def setup():
            if server.scheme == "redis":
                app.config["SESSION_REDIS"] = aioredis.from_url(url, decode_responses=True)
            else:
                app.config["SESSION_MEMCACHED"] = Client(server.hostname, server.port)
            Session(app)
    elif server.scheme == "memcached":
        app.config["SESSION_MEMCACHED_HOST"] = server.hostname
        app.config["SESSION_MEMCACHED_PORT"] = server.port
        Session(app)
    else:
        app.config["SESSION_URI"] = url
        Session(app)

    @app.route("/")
    async def hello():
        session["foo"] = "bar"
        return "session key 'foo' set"

    @app.route("/foo")
    async def foo():
        return session.get("foo", "session key 'foo' not found")

    @app.route("/login")
    async def login():
        session.update(LOGIN)
        return "hello"

    @app.route("/me")
    async def me():
        same = {key: session.get(key) == value for key, value in LOGIN.items()}
        types = {key: type(session.get(key)).__name__ for key in LOGIN}
        return {"same": same, "types": types, "keys": sorted(set(session) & set(LOGIN))}

    @app.route("/addr")
    async def addr():
        return {"item": session["_addr"], "attribute": session.addr, "has": "_addr" in session}

    @app.route("/permanent")
    async def permanent():
        return {"is": session.permanent, "item": session["_permanent"]}

    @app.route("/cache")
    async def cache():
        cache: SessionInterface = app.session_interface
        before = await cache.get("random_key")
        await cache.set("random_key", "val", expiry=3600)
        data = await cache.get("random_key")
        await cache.set(key="random_key", value="other", expiry=3600)
        other = await cache.get(key="random_key")
        await cache.delete("random_key")
        return {"all": repr([before, data, other, await cache.get("random_key")])}

    @app.route("/logout")
    async def logout():
        session.clear()
        return "bye"

    return app


async def talk(app: Quart, paths: list[str], sid: str | None) -> dict:
    """Ask for *paths* one after the other as one browser, which may begin with a session id."""
    async with app.test_app() as running:
        browser = running.test_client()
        if sid:
            browser.set_cookie("localhost", "session", sid)
        answers = []
        for path in paths:
            response = await browser.get(path)
            answers.append([response.status_code, await response.get_data(as_text=True)])
        cookies = [cookie.value for cookie in browser.cookie_jar if cookie.name == "session"]
        return {"answers": answers, "sid": cookies[0] if cookies else None}


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    app = create_app(order["url"], order.get("settings", {}), order.get("own_client", False))
    print(json.dumps(asyncio.run(talk(app, order["paths"], order.get("sid")))))
