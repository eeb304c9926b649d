"""regenerate, destroy, save, reload, and the deadlines."""

import gc
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from quart import Response, flash, get_flashed_messages, session, stream_with_context, websocket

from quart_session import SessionTooLarge, StoreError, signals
from quart_session.remains import MARKER, MARKER_LIFE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(new_site):
    site = new_site()
    await site.visit(lambda session: session.update(user="ada", cart=["tea"]))
    return site


def old_browser(site):
    """A browser that goes on with the id that the site's browser has now."""
    return {
        "client": site.app.test_client(use_cookies=False),
        "headers": {"Cookie": f"session={site.cookie()}"},
    }


class TestRegenerate:
    async def test_gives_a_new_id_and_keeps_the_data(self, site):
        old = site.cookie()
        await site.visit(lambda session: session.regenerate())
        assert site.cookie() != old
        assert await site.look() == {"user": "ada", "cart": ["tea"]}

    async def test_ends_the_old_id(self, site):
        thief = old_browser(site)
        await site.visit(lambda session: session.regenerate())
        seen = {}
        await site.visit(seen.update, **thief)
        assert seen == {}

    async def test_keeps_the_time_of_creation(self, site):
        times = []
        await site.visit(lambda session: times.append(session.created_at))
        await site.visit(lambda session: session.regenerate())
        await site.visit(lambda session: times.append(session.created_at))
        assert times[0] == times[1] is not None

    async def test_of_a_new_session_stores_it_even_where_that_is_explicit(self, new_site):
        def login(session):
            session["user"] = "ada"
            session.regenerate()

        site = new_site(SESSION_EXPLICIT=True)
        await site.visit(login)
        assert await site.look() == {"user": "ada"}

    async def test_of_an_empty_session_stores_nothing(self, new_site):
        site = new_site()
        await site.visit(lambda session: session.regenerate())
        assert site.store.calls == []

    async def test_takes_along_what_others_changed_meanwhile(self, site):
        other = old_browser(site)

        async def login(session):
            session["user"] = "bob"
            session.regenerate()
            await site.visit(lambda session: session["cart"].append("milk"), **other)

        await site.visit(login)
        assert await site.look() == {"user": "bob", "cart": ["tea", "milk"]}

    async def test_of_a_session_destroyed_meanwhile_stores_nothing(self, site):
        other = old_browser(site)
        new_key = []

        async def login(session):
            session.regenerate()
            new_key.append(site.interface.key_prefix + session.sid)
            await site.visit(lambda session: session.destroy(), **other)

        response = await site.visit(login)
        assert "Set-Cookie" not in response.headers
        assert await site.interface.get(new_key[0]) is None

    async def test_counts_after_modified_was_set_to_false(self, site):
        old = site.cookie()

        def login(session):
            session.modified = False
            session.regenerate()

        await site.visit(login)
        assert site.cookie() != old
        assert await site.look() == {"user": "ada", "cart": ["tea"]}

    async def test_is_forgotten_when_nothing_is_to_be_saved(self, site):
        old = site.cookie()
        [key] = site.interface.records.keys_of(old)
        await site.store.inner.touch(key, 60)  # so little is left that the cookie is sent again

        def refuse(session):
            session.regenerate()
            session.modified = False

        await site.visit(refuse)
        assert site.cookie() == old
        assert await site.look() == {"user": "ada", "cart": ["tea"]}

    async def test_in_a_websocket_is_an_error_since_the_browser_would_not_know(self, site):
        site.app._got_first_request = False

        @site.app.websocket("/ws")
        async def handler():
            try:
                session.regenerate()
            except RuntimeError as error:
                await websocket.send(str(error))

        async with site.client.websocket("/ws") as connection:
            assert "no cookie can tell it to the browser" in await connection.receive()


class TestDestroy:
    async def test_removes_record_and_cookie(self, site):
        key = site.interface.key_prefix + site.cookie()
        response = await site.visit(lambda session: session.destroy())
        assert response.headers["Set-Cookie"].startswith("session=;")
        assert await site.interface.get(key) is None
        assert site.cookie() is None

    async def test_wins_over_what_others_change_meanwhile(self, site):
        other = old_browser(site)

        async def logout(session):
            session.destroy()
            await site.visit(lambda session: session.update(more=1), **other)

        await site.visit(logout)
        assert site.cookie() is None
        seen = {}
        await site.visit(seen.update, **other)
        assert seen == {}

    async def test_a_message_flashed_afterwards_begins_a_new_session(self, site):
        old = site.cookie()

        async def logout(session):
            session.destroy()
            await flash("bye")

        await site.visit(logout)
        assert site.cookie() not in (None, old)
        response = await site.visit(lambda session: get_flashed_messages())
        assert await response.get_data(as_text=True) == "['bye']"

    async def test_of_what_is_gone_already_touches_no_cookie(self, site):
        other = old_browser(site)

        async def logout(session):
            session.get("user")
            await site.visit(lambda session: session.regenerate(), **other)
            session.destroy()

        response = await site.visit(logout)
        assert "Set-Cookie" not in response.headers

    async def test_of_a_new_session_does_nothing(self, new_site):
        site = new_site()
        response = await site.visit(lambda session: session.destroy())
        assert site.store.calls == []
        assert "Set-Cookie" not in response.headers


class TestAnIdThatWasSuperseded:
    """For a while the browser's other requests may still carry it."""

    @pytest.fixture
    async def late(self, site):
        late = old_browser(site)
        await site.visit(lambda session: session.regenerate())
        return late

    async def test_leaves_a_marker_without_data_for_some_seconds(self, site):
        key = site.interface.records.keys_of(site.cookie())[0]
        await site.visit(lambda session: session.destroy())
        record = await site.store.inner.get(key)
        assert record.data == MARKER
        assert 0 < record.expires_in <= MARKER_LIFE

    async def test_gets_an_empty_session_that_is_not_saved(self, site, late, caplog):
        response = await site.visit(lambda session: session.update(late=1), **late)
        assert "Set-Cookie" not in response.headers
        assert site.store.calls == ["get"]
        assert "what this request changed is lost" in caplog.text

    async def test_touches_no_cookie_when_it_is_destroyed_again(self, site, late):
        response = await site.visit(lambda session: session.destroy(), **late)
        assert "Set-Cookie" not in response.headers

    async def test_can_log_in(self, site, late):
        def login(session):
            session["user"] = "eve"
            session.regenerate()

        response = await site.visit(login, **late)
        assert response.headers["Set-Cookie"].startswith("session=")
        assert await site.look() == {"user": "ada", "cart": ["tea"]}


class TestSaveAndReload:
    @pytest.fixture
    async def old_age(self, site):
        """The next request extends the session's life, and the cookie's with it."""
        await site.store.inner.touch(site.interface.records.keys_of(site.cookie())[0], 400)

        @site.app.route("/login")
        async def login():
            session.regenerate()
            return ""

    async def test_save_stores_at_once(self, site):
        other = old_browser(site)
        seen = {}

        async def action(session):
            session["user"] = "bob"
            await session.save()
            await site.visit(seen.update, **other)

        await site.visit(action)
        assert seen["user"] == "bob"

    async def test_save_of_a_new_session_sends_the_cookie_with_the_response(self, new_site):
        async def action(session):
            session["user"] = "ada"
            await session.save()

        site = new_site()
        await site.visit(action)
        assert await site.look() == {"user": "ada"}

    async def test_a_value_that_the_view_holds_stays_the_sessions_own(self, site):
        other = old_browser(site)

        async def action(session):
            cart = session["cart"]
            await site.visit(lambda session: session.update(others=1), **other)
            session["visits"] = 1
            await session.save()
            cart.append("milk")

        await site.visit(action)
        assert await site.look() == {
            "user": "ada",
            "cart": ["tea", "milk"],
            "others": 1,
            "visits": 1,
        }

    async def test_a_value_that_another_task_changes_meanwhile_is_not_lost(self, site, monkeypatch):
        other = old_browser(site)
        original = site.store.set

        async def action(session):
            async def set_meanwhile(*args):
                patch.undo()
                session["cart"].append("milk")
                return await original(*args)

            await site.visit(lambda session: session.update(others=1), **other)
            session["visits"] = 1
            with monkeypatch.context() as patch:
                patch.setattr(site.store, "set", set_meanwhile)
                await session.save()

        await site.visit(action)
        seen = await site.look()
        assert seen == {"user": "ada", "cart": ["tea", "milk"], "others": 1, "visits": 1}

    async def test_reload_waits_for_a_save_of_another_task(self, site):
        """Else what was saved would be taken for older than what was loaded, and be undone."""

        async def action(session):
            session["visits"] = 1
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.save)
                tasks.start_soon(session.reload)
            session["more"] = 1

        await site.visit(action)
        assert await site.look() == {"user": "ada", "cart": ["tea"], "visits": 1, "more": 1}

    async def test_reload_keeps_what_is_set_meanwhile(self, site, monkeypatch):
        original = site.store.get

        async def action(session):
            async def get_meanwhile(key):
                session["visits"] = 1
                del session["cart"]
                return await original(key)

            session["forgotten"] = 1
            with monkeypatch.context() as patch:
                patch.setattr(site.store, "get", get_meanwhile)
                await session.reload()

        await site.visit(action)
        assert await site.look() == {"user": "ada", "visits": 1}

    async def test_a_reload_that_fails_forgets_nothing(self, site):
        async def action(session):
            del session["cart"]
            site.store.failure = StoreError("the backend is tired")
            with pytest.raises(StoreError):
                await session.reload()
            site.store.failure = None

        await site.visit(action)
        assert await site.look() == {"user": "ada"}

    async def test_no_new_id_while_another_task_saves(self, site, monkeypatch):
        """Else the browser would be told an id under which nothing was stored."""
        original = site.store.set

        async def action(session):
            async def set_meanwhile(*args):
                with pytest.raises(RuntimeError, match="another task"):
                    session.regenerate()
                return await original(*args)

            session["visits"] = 1
            with monkeypatch.context() as patch:
                patch.setattr(site.store, "set", set_meanwhile)
                await session.save()
            session.regenerate()

        before = site.cookie()
        await site.visit(action)
        assert site.cookie() != before
        assert (await site.look())["visits"] == 1

    async def test_a_save_before_a_login_elsewhere_sends_no_cookie(self, site, old_age):
        """Else the browser, which has the id of the login by then, would be logged out."""
        other = old_browser(site)

        async def action(session):
            session["visits"] = 1
            await session.save()
            await other["client"].get("/login", headers=other["headers"])

        response = await site.visit(action)
        assert "Set-Cookie" not in response.headers

    async def test_a_reload_before_the_response_does_not_make_it_send_one(self, site, old_age):
        other = old_browser(site)

        async def action(session):
            session["visits"] = 1
            await session.save()
            await other["client"].get("/login", headers=other["headers"])
            await session.reload()

        response = await site.visit(action)
        assert "Set-Cookie" not in response.headers

    async def test_a_save_that_fails_after_another_keeps_the_browser_at_that(self, site, old_age):
        before = site.cookie()

        async def action(session):
            session["visits"] = 1
            await session.save()
            session.regenerate()
            site.store.failure = StoreError("the backend is tired")

        site.note_errors()
        assert (await site.visit(action)).status_code == 500
        site.store.failure = None
        assert site.cookie() == before
        assert (await site.look())["visits"] == 1

    async def test_save_works_in_the_body_of_a_stream(self, site):
        def action(_):
            @stream_with_context
            async def body():
                session["late"] = True
                await session.save()
                yield b"x"

            return Response(body())

        response = await site.visit(action)
        await response.get_data()
        assert (await site.look())["late"] is True

    async def test_a_new_session_cannot_begin_in_the_body_of_a_stream(self, new_site, caplog):
        def action(_):
            @stream_with_context
            async def body():
                session["late"] = True
                await session.save()
                yield b"x"

            return Response(body())

        site = new_site()
        response = await site.visit(action)
        await response.get_data()
        assert site.store.calls == []
        assert "the change is lost without `await session.save()`" in caplog.text

    async def test_reload_takes_over_what_others_stored(self, site):
        other = old_browser(site)
        seen = {}

        async def action(session):
            session["forgotten"] = True
            await site.visit(lambda session: session.update(user="bob"), **other)
            await session.reload()
            seen.update(session)

        await site.visit(action)
        assert seen == {"user": "bob", "cart": ["tea"]}
        assert await site.look() == seen

    async def test_reload_of_a_session_that_is_gone_leaves_it_empty(self, site):
        other = old_browser(site)

        async def action(session):
            await site.visit(lambda session: session.destroy(), **other)
            await session.reload()
            assert session == {}
            session["late"] = 1

        response = await site.visit(action)
        assert "Set-Cookie" not in response.headers
        assert await site.look() == {}

    async def test_a_websocket_sees_and_saves_in_the_middle(self, site):
        site.app._got_first_request = False

        @site.app.websocket("/ws")
        async def handler():
            await websocket.receive()
            await session.reload()
            session["answer"] = session["question"]
            await session.save()
            await websocket.send("saved")
            await websocket.receive()

        async with site.client.websocket("/ws") as connection:
            await site.visit(lambda session: session.update(question="?"))
            await connection.send("go")
            await connection.receive()
            assert (await site.look())["answer"] == "?"


class TestTimes:
    async def test_a_session_knows_when_it_began_and_when_it_ends(self, site):
        times = {}

        def look(session):
            times.update(created=session.created_at, expires=session.expires_at)

        await site.visit(look)
        now = datetime.now(UTC)
        assert timedelta(0) <= now - times["created"] < timedelta(minutes=1)
        life = site.app.permanent_session_lifetime
        rounded_up = timedelta(seconds=2)  # by memcached
        assert -rounded_up <= now + life - times["expires"] < timedelta(minutes=1)

    async def test_a_new_session_has_none(self, new_site):
        times = []
        await new_site().visit(
            lambda session: times.extend([session.new, session.created_at, session.expires_at])
        )
        assert times == [True, None, None]

    async def test_activity_does_not_move_the_absolute_deadline(self, new_site):
        lifetime = timedelta(seconds=1000)
        site = new_site(SESSION_ABSOLUTE_LIFETIME=lifetime)
        ends = []
        for action in (
            lambda session: session.update(a=1),
            lambda session: session.update(b=1),
            lambda session: session.regenerate(),
            lambda session: session.dirty(),
        ):
            await site.visit(action)
            await site.visit(lambda session: ends.append(session.expires_at))
        assert max(ends) - min(ends) < timedelta(seconds=1)
        assert abs(max(ends) - datetime.now(UTC) - lifetime) < timedelta(seconds=5)

    async def test_beyond_the_absolute_deadline_there_is_no_session(self, site):
        site.interface.config = replace(site.interface.config, absolute_lifetime=0.01)
        await anyio.sleep(1.1)  # the time of creation is kept in whole seconds
        sid = site.cookie()
        assert await site.look() == {}
        await site.visit(lambda session: session.update(user="eve"))
        assert site.cookie() != sid


async def test_a_session_that_is_too_large_is_refused_before_any_call(new_site):
    site = new_site(SESSION_MAX_BYTES=1000, PROPAGATE_EXCEPTIONS=False)
    errors = site.note_errors()
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: session.update(blob="x" * 2000))
    assert site.store.calls == ["get"]
    assert isinstance(errors[0], SessionTooLarge)
    assert "SESSION_MAX_BYTES allows 1,000" in str(errors[0])
    assert await site.look() == {"user": "ada"}


async def test_signals_tell_what_happens_and_never_the_id(site):
    names = [name for name in vars(signals) if name.startswith("session_")]
    heard = []

    def listen(name):
        async def receiver(sender, **extra):
            assert sender is site.app
            assert site.cookie() is None or site.cookie() not in str(extra)
            heard.append(name.removeprefix("session_"))

        return receiver

    receivers = {name: listen(name) for name in names}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    other = old_browser(site)

    async def conflict(session):
        session["b"] = 2
        await site.visit(lambda session: session.update(c=3), **other)

    steps = {
        "loaded saved": lambda session: session.update(a=1),
        "loaded loaded saved conflict saved": conflict,
        "loaded regenerated saved": lambda session: session.regenerate(),
        "loaded destroyed": lambda session: session.destroy(),
        "created saved": lambda session: session.update(a=1),
    }
    for expected, action in steps.items():
        heard.clear()
        await site.visit(action)
        assert " ".join(heard) == expected
    heard.clear()
    await site.visit(lambda session: session.update(late=1), **other)
    assert heard == ["write_dropped"]


async def test_a_session_is_no_reference_cycle(site):
    """So that its data is gone with its request, not with the next garbage collection."""
    async with site.app.test_request_context(
        "/", headers={"Cookie": f"session={site.cookie()}"}
    ) as context:
        gc.collect()
        gc.disable()
        try:
            opened = await site.interface.open_session(site.app, context.request)
            opened["cart"].append("milk")
            await site.interface.save_session(site.app, opened, Response())
            reference = weakref.ref(opened)
            del opened
            assert reference() is None
        finally:
            gc.enable()
