"""bind(), SESSION_USER_KEY and what they give: list, limit and revoke a user's sessions."""

import logging
import pickle
import uuid
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from backends import BACKENDS, KEEPING, make_store
from quart import session as current_session
from quart import websocket

from quart_session import ConfigError, StoreError, signals, users
from quart_session.stores.base import Conflict
from quart_session.stores.memory import MemoryStore
from quart_session.stores.null import NullStore

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KEEPING)
async def store(request, tmp_path):
    store = make_store(BACKENDS[request.param](request, tmp_path), timeout=5)
    yield store
    await store.close()


@pytest.fixture
def site(new_site):
    return new_site(SESSION_USER_KEY="user_id")


async def log_in(site, user_id, agent="Firefox", **data):
    """A new browser with a session of the user."""
    browser = site.app.test_client()

    def action(session):
        session.update(user_id=user_id, **data)
        session.regenerate()

    await site.visit(action, client=browser, headers={"User-Agent": agent})
    return browser


async def grow_old(site, browser):
    """Let so little be left of its session's life that the next request extends it."""
    [cookie] = browser.cookie_jar
    [key] = site.interface.records.keys_of(cookie.value)
    await site.store.inner.touch(key, 400)


async def sessions_of(site, user_id):
    async with site.app.app_context():
        return await site.interface.sessions_of(user_id)


async def agents(site, user_id):
    return [handle.user_agent for handle in await sessions_of(site, user_id)]


class TestList:
    async def test_has_each_session_of_the_user_and_no_other(self, site):
        await log_in(site, 1, "Firefox")
        await log_in(site, 2, "Chromium")
        await log_in(site, 1, "Safari")
        await site.visit(lambda session: session.update(nobody=True))
        assert await agents(site, 1) == ["Firefox", "Safari"]
        assert await agents(site, 2) == ["Chromium"]
        assert await agents(site, 3) == []

    async def test_tells_what_a_user_knows_his_sessions_by(self, site):
        before = datetime.now(UTC).replace(microsecond=0)
        await log_in(site, "ada")
        [handle] = await sessions_of(site, "ada")
        now = datetime.now(UTC)
        assert handle.user_id == "ada"
        assert handle.user_agent == "Firefox"
        assert handle.address
        assert before <= handle.created_at <= now
        assert before - timedelta(seconds=2) <= handle.last_seen <= now + timedelta(seconds=2)
        assert handle.expires_at - now > timedelta(days=30)
        assert not handle.current

    async def test_marks_the_session_of_the_request(self, site):
        await log_in(site, "ada", "Firefox")
        browser = await log_in(site, "ada", "Safari")
        seen = {}

        async def action(session):
            for handle in await site.interface.sessions_of("ada"):
                seen[handle.user_agent] = handle.current

        await site.visit(action, client=browser)
        assert seen == {"Firefox": False, "Safari": True}

    async def test_does_not_tell_the_id(self, site):
        browser = await log_in(site, "ada")
        [cookie] = browser.cookie_jar
        [handle] = await sessions_of(site, "ada")
        assert cookie.value not in repr(handle)
        assert cookie.value not in (handle.key, handle.fingerprint)
        assert handle.key not in repr(handle)

    async def test_the_fingerprint_is_that_of_the_signals(self, site):
        seen = []

        async def note(app, fingerprint, **_):
            seen.append(fingerprint)

        with signals.session_created.connected_to(note, sender=site.app):
            await log_in(site, "ada")
        [handle] = await sessions_of(site, "ada")
        assert [handle.fingerprint] == seen

    async def test_has_a_session_once_whatever_happens_to_it(self, site):
        browser = await log_in(site, "ada")
        await site.visit(lambda session: session.update(cart=["tea"]), client=browser)
        await site.visit(lambda session: session.regenerate(), client=browser)
        await site.visit(lambda session: session["cart"].append("milk"), client=browser)
        assert len(await sessions_of(site, "ada")) == 1

    @pytest.mark.parametrize(
        "log_out",
        [lambda session: session.destroy(), lambda session: session.clear()],
        ids=["destroy", "clear"],
    )
    async def test_forgets_who_logs_out(self, site, log_out):
        browser = await log_in(site, "ada", cart=["tea"])
        await site.visit(log_out, client=browser)
        assert await sessions_of(site, "ada") == []
        assert await site.interface.users._entries("ada") == {}

    async def test_forgets_in_time_who_leaves_a_session_that_goes_on(self, site, monkeypatch):
        """Not at once, since a slower request may be about to give it to him again."""
        browser = await log_in(site, "ada", cart=["tea"])
        await site.visit(lambda session: session.pop("user_id"), client=browser)
        assert await sessions_of(site, "ada") == []
        monkeypatch.setattr(users, "SETTLED", -1)
        await log_in(site, "ada")
        assert len(await site.interface.users._entries("ada")) == 1

    async def test_follows_a_session_to_another_user(self, site):
        browser = await log_in(site, "ada")
        await site.visit(lambda session: session.update(user_id="bob"), client=browser)
        assert await sessions_of(site, "ada") == []
        assert len(await sessions_of(site, "bob")) == 1

    async def test_leaves_out_what_has_expired(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", PERMANENT_SESSION_LIFETIME=1)
        await log_in(site, "ada")
        await anyio.sleep(1.1)
        assert await sessions_of(site, "ada") == []

    async def test_forgets_the_dead_with_time(self, site, monkeypatch):
        monkeypatch.setattr(users, "SETTLED", -1)
        for _ in range(20):
            browser = await log_in(site, "ada")
            [cookie] = browser.cookie_jar
            await site.store.inner.delete(site.interface.records.keys_of(cookie.value)[0])
        assert len(await site.interface.users._entries("ada")) <= users.SAMPLE

    async def test_costs_a_request_nothing_that_is_no_login(self, site):
        browser = await log_in(site, "ada")
        await site.visit(lambda session: session["user_id"], client=browser)
        assert site.store.calls == ["get"]
        await site.visit(lambda session: session.update(cart=["tea"]), client=browser)
        assert site.store.calls == ["get", "set"]

    async def test_lives_on_with_its_sessions(self, new_site):
        """Each use extends the session's life, and the index must not end before it."""
        site = new_site(SESSION_USER_KEY="user_id", PERMANENT_SESSION_LIFETIME=1000)
        browser = await log_in(site, "ada")
        key = site.interface.users._key("ada")
        await site.store.inner.touch(key, 500)
        await grow_old(site, browser)
        await site.visit(lambda session: session["user_id"], client=browser)
        record = await site.store.inner.get(key)
        assert record.expires_in > 1000

    async def test_finds_sessions_again_that_it_had_lost(self, new_site):
        """As those that were stored before there was a SESSION_USER_KEY."""
        site = new_site(SESSION_USER_KEY="user_id", PERMANENT_SESSION_LIFETIME=1000)
        browser = await log_in(site, "ada")
        await site.store.inner.delete(site.interface.users._key("ada"))
        await grow_old(site, browser)
        await site.visit(lambda session: session["user_id"], client=browser)
        assert len(await sessions_of(site, "ada")) == 1


class TestBind:
    async def test_names_the_user_without_a_setting(self, new_site):
        site = new_site()
        await site.visit(lambda session: session.bind("ada"))
        assert len(await sessions_of(site, "ada")) == 1
        seen = []
        await site.visit(lambda session: seen.append(session.user_id))
        assert seen == ["ada"]

    @pytest.mark.parametrize(
        "user_id", [7, uuid.uuid4(), "\ud800"], ids=["int", "UUID", "lone surrogate"]
    )
    async def test_takes_any_id_as_its_text(self, new_site, user_id):
        site = new_site()
        await site.visit(lambda session: session.bind(user_id))
        [handle] = await sessions_of(site, user_id)
        assert handle.user_id == str(user_id)
        assert len(await sessions_of(site, str(user_id))) == 1

    @pytest.mark.parametrize("user_id", [True, 1.5, b"ada", ["ada"]], ids=repr)
    async def test_refuses_what_is_no_id(self, new_site, user_id):
        def action(session):
            with pytest.raises(TypeError, match="a user id is a str, an int or a UUID, not"):
                session.bind(user_id)

        assert (await new_site().visit(action)).status_code == 200

    async def test_stores_a_session_that_is_new_even_where_that_is_explicit(self, new_site):
        site = new_site(SESSION_EXPLICIT=True)
        await site.visit(lambda session: (session.update(name="Ada"), session.bind("ada")))
        assert await site.look() == {"name": "Ada"}

    async def test_to_nobody_takes_it_back(self, new_site):
        site = new_site()
        await site.visit(lambda session: (session.update(cart=["tea"]), session.bind("ada")))
        await site.visit(lambda session: session.bind(None))
        assert await sessions_of(site, "ada") == []
        assert await site.look() == {"cart": ["tea"]}

    async def test_clear_takes_it_back(self, new_site):
        site = new_site()
        await site.visit(lambda session: (session.update(cart=["tea"]), session.bind("ada")))
        await site.visit(lambda session: (session.clear(), session.update(cart=[])))
        assert await sessions_of(site, "ada") == []

    async def test_survives_what_another_request_writes_meanwhile(self, new_site):
        site = new_site()
        await site.visit(lambda session: session.update(cart=["tea"]))
        other = {
            "client": site.app.test_client(use_cookies=False),
            "headers": {"Cookie": f"session={site.cookie()}"},
        }

        async def slow(session):
            await site.visit(lambda session: session["cart"].append("milk"), **other)
            session.bind("ada")

        await site.visit(slow)
        assert await site.look() == {"cart": ["tea", "milk"]}
        assert len(await sessions_of(site, "ada")) == 1

    async def test_taken_back_with_the_last_key_is_not_undone_by_a_slower_request(self, new_site):
        site = new_site()
        await site.visit(lambda session: (session.update(cart=["tea"]), session.bind("ada")))
        slow_browser = {
            "client": site.app.test_client(use_cookies=False),
            "headers": {"Cookie": f"session={site.cookie()}"},
        }

        async def slow(session):
            await site.visit(lambda session: (session.bind(None), session.pop("cart")))
            session["slow"] = True

        await site.visit(slow, **slow_browser)
        seen = []
        await site.visit(lambda session: seen.append((session.user_id, *session)), **slow_browser)
        assert seen == [(None, "slow")]

    async def test_marks_the_session_as_modified(self, new_site):
        seen = []
        await new_site().visit(lambda session: (session.bind("ada"), seen.append(session.modified)))
        assert seen == [True]


class TestUserKey:
    async def test_stores_a_new_session_even_where_that_is_explicit(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_EXPLICIT=True)
        await site.visit(lambda session: session.update(user_id=7))
        assert await site.look() == {"user_id": 7}

    async def test_says_so_when_there_is_no_user_id_under_it(self, site):
        errors = site.note_errors()
        await site.visit(lambda session: session.update(user_id=["ada"]))
        assert "a user id is a str, an int or a UUID, not list" in str(errors[0])

    async def test_none_is_nobody(self, site):
        await site.visit(lambda session: session.update(user_id=None, cart=[]))
        assert await site.look() == {"user_id": None, "cart": []}


class TestRevoke:
    async def test_ends_one_session(self, site):
        lost = await log_in(site, "ada", "Firefox")
        kept = await log_in(site, "ada", "Safari")
        [firefox, _] = await sessions_of(site, "ada")
        async with site.app.app_context():
            assert await site.interface.revoke(firefox) is True
            assert await site.interface.revoke(firefox) is False
        assert await site.look(lost) == {}
        assert await site.look(kept) == {"user_id": "ada"}
        assert await agents(site, "ada") == ["Safari"]

    async def test_all_ends_each_session_of_the_user(self, site):
        browsers = [await log_in(site, "ada") for _ in range(5)]
        other = await log_in(site, "bob")
        async with site.app.app_context():
            assert await site.interface.revoke_all("ada") == 5
            assert await site.interface.revoke_all("ada") == 0
        for browser in browsers:
            assert await site.look(browser) == {}
        assert await site.look(other) == {"user_id": "bob"}

    async def test_all_but_the_current_one(self, site):
        """As after a change of the password."""
        others = [await log_in(site, "ada") for _ in range(3)]
        mine = await log_in(site, "ada")

        async def action(session):
            session.regenerate()
            await site.interface.revoke_all("ada", except_current=True)

        await site.visit(action, client=mine)
        for browser in others:
            assert await site.look(browser) == {}
        assert await site.look(mine) == {"user_id": "ada"}

    async def test_cannot_be_undone_by_a_slower_request(self, site, caplog):
        browser = await log_in(site, "ada")

        async def slow(session):
            await site.interface.revoke_all("ada")
            session["late"] = True

        response = await site.visit(slow, client=browser)
        assert "Set-Cookie" not in response.headers
        assert "what this request changed is lost" in caplog.text
        assert await site.look(browser) == {}
        assert await sessions_of(site, "ada") == []

    async def test_cannot_be_undone_by_a_slower_request_for_a_new_id(self, site):
        browser = await log_in(site, "ada")

        async def slow(session):
            await site.interface.revoke_all("ada")
            session.regenerate()

        await site.visit(slow, client=browser)
        assert await site.look(browser) == {}
        assert await sessions_of(site, "ada") == []

    async def test_leaves_no_marker(self, site):
        """So the browser may log in at once, with a session that has the new user's data only."""
        browser = await log_in(site, "ada")
        async with site.app.app_context():
            await site.interface.revoke_all("ada")
        await site.visit(lambda session: session.update(anonymous=True), client=browser)
        assert await site.look(browser) == {"anonymous": True}

    async def test_reaches_a_websocket_by_reload(self, site):
        browser = await log_in(site, "ada")

        @site.app.websocket("/ws")
        async def ws():
            while True:
                await websocket.receive()
                await current_session.reload()
                await websocket.send(str(current_session.get("user_id")))

        async with browser.websocket("/ws") as connection:
            await connection.send("?")
            assert await connection.receive() == "ada"
            async with site.app.app_context():
                await site.interface.revoke_all("ada")
            await connection.send("?")
            assert await connection.receive() == "None"

    async def test_tells_of_it_by_a_signal(self, site):
        await log_in(site, "ada")
        [handle] = await sessions_of(site, "ada")
        seen = []

        async def note(app, **told):
            seen.append(told)

        with signals.session_revoked.connected_to(note, sender=site.app):
            async with site.app.app_context():
                await site.interface.revoke_all("ada")
        assert seen == [{"fingerprint": handle.fingerprint, "user_id": "ada"}]

    async def test_works_on_renewed_sessions(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_RENEW_AFTER=60)
        browser = await log_in(site, "ada")
        [cookie] = browser.cookie_jar
        site.interface._is_renewal_due = lambda *_: True
        await site.visit(lambda session: session["user_id"], client=browser)
        async with site.app.app_context():
            assert await site.interface.revoke_all("ada") == 1
        assert await site.look(browser) == {}
        late = site.app.test_client(use_cookies=False)
        seen = {}
        await site.visit(seen.update, client=late, headers={"Cookie": f"session={cookie.value}"})
        assert seen == {}


class TestLimit:
    async def test_revokes_the_oldest(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_MAX_PER_USER=2)
        browsers = [await log_in(site, "ada", f"browser {n}") for n in range(4)]
        assert await agents(site, "ada") == ["browser 2", "browser 3"]
        assert await site.look(browsers[1]) == {}
        assert await site.look(browsers[2]) == {"user_id": "ada"}

    async def test_counts_the_living_only(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_MAX_PER_USER=2)
        first = await log_in(site, "ada", "first")
        for _ in range(5):
            gone = await log_in(site, "ada")
            [cookie] = gone.cookie_jar
            await site.store.inner.delete(site.interface.records.keys_of(cookie.value)[0])
        await log_in(site, "ada", "last")
        assert await site.look(first) == {"user_id": "ada"}
        assert await agents(site, "ada") == ["first", "last"]

    async def test_holds_for_logins_at_once(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_MAX_PER_USER=3)
        site.action = lambda session: session.update(user_id="ada")
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(site.app.test_client().get, "/")
        assert len(await sessions_of(site, "ada")) <= 3
        assert len(await sessions_of(site, "ada")) >= 1

    async def test_a_new_id_is_no_new_session(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_MAX_PER_USER=2)
        other = await log_in(site, "ada")
        mine = await log_in(site, "ada")
        for _ in range(3):
            await site.visit(lambda session: session.regenerate(), client=mine)
        assert await site.look(other) == {"user_id": "ada"}

    async def test_who_logs_in_again_with_the_same_id_is_the_youngest(self, new_site):
        site = new_site(SESSION_USER_KEY="user_id", SESSION_MAX_PER_USER=2)
        browser = site.app.test_client()
        await site.visit(lambda session: session.update(user_id="ada", cart=1), client=browser)
        await site.visit(lambda session: session.pop("user_id"), client=browser)
        others = [await log_in(site, "ada") for _ in range(2)]
        await site.visit(lambda session: session.update(user_id="ada"), client=browser)
        assert await site.look(browser) == {"user_id": "ada", "cart": 1}
        assert await site.look(others[0]) == {}


class TestFailure:
    async def test_a_login_that_cannot_be_noted_is_none(self, site, monkeypatch):
        """A session that revoke_all() cannot find must not come into being."""
        original = site.store.inner.set

        async def fail(key, *args):
            if ":user:" in key:
                raise StoreError("the backend is tired")
            return await original(key, *args)

        monkeypatch.setattr(site.store.inner, "set", fail)
        response = await site.visit(lambda session: session.update(user_id="ada"))
        assert response.status_code == 500
        assert "Set-Cookie" not in response.headers

    async def test_a_logout_succeeds_even_if_the_index_does_not(self, site, monkeypatch, caplog):
        browser = await log_in(site, "ada")

        async def fail(key, *args):
            raise StoreError("the backend is tired")

        monkeypatch.setattr(site.store.inner, "delete", fail)
        with caplog.at_level(logging.WARNING):
            response = await site.visit(lambda session: session.destroy(), client=browser)
        assert response.status_code == 200
        assert "a user" in caplog.text or "its user" in caplog.text
        assert await sessions_of(site, "ada") == []

    async def test_a_session_that_is_not_readable_is_left_out(self, site):
        browser = await log_in(site, "ada", "damaged")
        [cookie] = browser.cookie_jar
        await site.store.inner.set(site.interface.records.keys_of(cookie.value)[0], b"?", 60)
        await log_in(site, "ada", "whole")
        assert await agents(site, "ada") == ["whole"]

    async def test_users_log_in_after_the_serializer_was_replaced(self, site):
        await log_in(site, "ada", "before")
        site.interface.serializer = pickle
        browser = await log_in(site, "ada", "after")
        assert await site.look(browser) == {"user_id": "ada"}
        assert await agents(site, "ada") == ["after"]


class TestAStoreThatCannotTellHowLongARecordLives:
    @pytest.fixture
    def store(self):
        class Vague(MemoryStore):
            async def get(self, key):
                record = await super().get(key)
                return record and record._replace(expires_in=None)

            async def set(self, *args):
                result = await super().set(*args)
                if isinstance(result, Conflict) and result.record is not None:
                    return Conflict(result.record._replace(expires_in=None))
                return result

        return Vague()

    async def test_keeps_the_index_when_one_of_several_logs_out(self, site):
        first, _ = await log_in(site, "ada"), await log_in(site, "ada")
        await site.visit(lambda session: session.destroy(), client=first)
        assert await self.life_of_the_index(site) > 3600

    async def test_keeps_the_index_for_a_session_whose_life_is_extended(self, site):
        browser = await log_in(site, "ada")
        await site.store.inner.touch(site.interface.users._key("ada"), 400)
        await site.visit(lambda session: session.update(more=1), client=browser)
        assert await self.life_of_the_index(site) > 3600

    async def life_of_the_index(self, site):
        return (
            await MemoryStore.get(site.store.inner, site.interface.users._key("ada"))
        ).expires_in


class TestStoresThatCannotList:
    @pytest.mark.parametrize("setting", [{"SESSION_USER_KEY": "u"}, {"SESSION_MAX_PER_USER": 3}])
    def test_are_refused_at_the_start(self, setting):
        from quart import Quart

        from quart_session import Session

        app = Quart(__name__)
        app.config.update(SESSION_TYPE="null", **setting)
        with pytest.raises(ConfigError, match="cannot tell which sessions a user has"):
            Session(app)

    async def test_say_so_when_a_session_is_bound(self):
        from quart import Quart

        from quart_session import Session

        app = Quart(__name__)
        app.config["SESSION_TYPE"] = NullStore()
        Session(app)

        @app.get("/")
        async def bind():
            with pytest.raises(ConfigError, match="cannot tell which sessions a user has"):
                current_session.bind("ada")
            with pytest.raises(ConfigError):
                await app.session_interface.sessions_of("ada")
            with pytest.raises(ConfigError):
                await app.session_interface.revoke_all("ada")
            return "fine"

        assert (await app.test_client().get("/")).status_code == 200
