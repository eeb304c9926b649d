"""Whatever strangers send, and however much of it, no record appears in the backend.

``SOAK=1`` asks for the long form: 10,000 requests of each kind.
"""

import contextlib
import sqlite3
import time
import uuid

import pytest
import redis
from long_form import SOAK
from quart import Quart, session

from quart_session import Session
from quart_session._hotpath import new_sid
from quart_session.remains import MARKER_LIFE

pytestmark = pytest.mark.anyio

COUNT = 10_000 if SOAK else 300


class SQLiteRecords:
    """Counts the rows of a file."""

    def __init__(self, folder):
        self.path = folder / "sessions.sqlite3"
        self.settings = {"SESSION_TYPE": "sqlite", "SESSION_SQLITE_PATH": str(self.path)}

    def count(self):
        return len(self._ends())

    def longest_life(self):
        return max(self._ends(), default=0) - time.time()

    def _ends(self):
        if not self.path.exists():  # nobody has asked for a session yet
            return []
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return [end for [end] in connection.execute("SELECT expires FROM quart_sessions")]


class RedisRecords:
    """Counts the keys of a database of its own."""

    def __init__(self, url):
        self.client = redis.Redis.from_url(f"{url}/7")
        self.client.flushdb()
        self.settings = {"SESSION_TYPE": "redis", "SESSION_URI": f"{url}/7"}

    def count(self):
        return self.client.dbsize()

    def longest_life(self):
        return max([self.client.pttl(key) / 1000 for key in self.client.keys("*")], default=0)


@pytest.fixture(params=["sqlite", "redis"])
def records(request, tmp_path):
    if request.param == "sqlite":
        yield SQLiteRecords(tmp_path)
    else:
        records = RedisRecords(request.getfixturevalue("redis_server").url)
        yield records
        records.client.flushdb()
        records.client.close()


@pytest.fixture(params=[False, True], ids=["as it is", "protected"])
async def app(request, records, tmp_path):
    """An application whose pages look at the session, and a page that fills it."""
    app = Quart(__name__, instance_path=str(tmp_path))
    app.config.update(records.settings, SESSION_PROTECTION=request.param, SESSION_TIMEOUT=5)
    Session(app)

    @app.route("/")
    async def page():
        session.permanent = True
        return session.get("user", "nobody")

    @app.route("/login")
    async def login():
        session["user"] = "ada"
        session.regenerate()
        return "hello"

    @app.route("/logout/<way>")
    async def logout(way):
        if way == "pop":
            session.pop("user", None)
        else:
            getattr(session, way)()
        return "bye"

    yield app
    await app.session_interface.close()


WAYS = ["destroy", "clear", "pop"]
PAGES = ["/", "/nowhere", *(f"/logout/{way}" for way in WAYS)]


async def flood(app, cookie=lambda: None):
    """Requests of strangers; *cookie* makes up the value of the next one's cookie."""
    client = app.test_client(use_cookies=False)
    answers = set()
    for number in range(COUNT):
        value = cookie()
        headers = {} if value is None else {"Cookie": f"session={value}"}
        response = await client.get(PAGES[number % len(PAGES)], headers=headers)
        answers.add((response.status_code, response.headers.get("Set-Cookie")))
    return answers


async def log_in(app):
    browser = app.test_client()
    await browser.get("/login")
    [cookie] = browser.cookie_jar
    return browser, cookie.value


async def test_requests_without_a_cookie_leave_nothing(app, records):
    assert await flood(app) == {(200, None), (404, None)}
    assert records.count() == 0


@pytest.mark.parametrize("make", [new_sid, lambda: str(uuid.uuid4())], ids=["ours", "version 3"])
async def test_requests_with_an_id_that_nobody_issued_leave_nothing(app, records, make):
    assert await flood(app, make) == {(200, None), (404, None)}
    assert records.count() == 0


@pytest.mark.parametrize("way", WAYS)
async def test_requests_with_the_id_of_a_session_that_ended_leave_nothing_new(app, records, way):
    browser, sid = await log_in(app)
    assert records.count() == 1
    await browser.get(f"/logout/{way}")
    assert await flood(app, lambda: sid) == {(200, None), (404, None)}
    assert records.count() <= 1
    assert records.longest_life() <= MARKER_LIFE


async def test_logins_and_logouts_leave_what_is_gone_in_seconds(app, records):
    for number in range(COUNT):
        browser, _ = await log_in(app)
        await browser.get(f"/logout/{WAYS[number % len(WAYS)]}")
    assert records.count() <= COUNT
    assert records.longest_life() <= MARKER_LIFE


async def test_the_sessions_of_others_are_still_there(app, records):
    browser, _ = await log_in(app)
    await flood(app, new_sid)
    assert records.count() == 1
    response = await browser.get("/")
    assert await response.get_data(as_text=True) == "ada"
