"""Sessions in every way in which Quart answers a request."""

import gc
import weakref

import anyio
import anyio.lowlevel
import pytest
from backends import BACKENDS
from quart import Quart, Response, abort, flash, get_flashed_messages, redirect, session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from quart_session import Session

pytestmark = pytest.mark.anyio

LOGIN = {"user": "ada"}


def then(answer):
    """Change the session, then give *answer*."""

    def action(session):
        session.update(LOGIN)
        return answer(session) if callable(answer) else answer

    return action


async def test_a_session_transaction_reads_and_writes(site):
    async with site.client.session_transaction() as transaction:
        transaction.update(LOGIN)
    assert await site.look() == LOGIN
    async with site.client.session_transaction() as transaction:
        assert transaction == LOGIN
        transaction["cart"] = ["tea"]
    assert await site.look() == {**LOGIN, "cart": ["tea"]}


async def test_a_flashed_message_is_shown_once_and_leaves_nothing(site):
    async def say(session):
        await flash("hello")

    await site.visit(say)
    response = await site.visit(lambda session: get_flashed_messages())
    assert await response.get_data(as_text=True) == "['hello']"
    assert site.cookie() is None


async def test_a_redirect_saves_what_was_changed(site):
    response = await site.visit(then(lambda session: redirect("/other")))
    assert response.status_code == 302
    assert await site.look() == LOGIN


async def test_a_response_of_werkzeug_saves_what_was_changed(site):
    def answer(session):
        session.update(LOGIN)
        return WerkzeugResponse("x"), 200

    await site.visit(answer)
    assert await site.look() == LOGIN


async def test_abort_saves_what_was_changed_before(site):
    response = await site.visit(then(lambda session: abort(418)))
    assert response.status_code == 418
    assert await site.look() == LOGIN


async def test_an_error_that_nobody_handles_saves_what_was_changed_before(new_site):
    site = new_site(PROPAGATE_EXCEPTIONS=False)
    response = await site.visit(then(lambda session: 1 / 0))
    assert response.status_code == 500
    assert await site.look() == LOGIN


async def test_an_error_handler_can_use_the_session(new_site):
    site = new_site(PROPAGATE_EXCEPTIONS=False)

    @site.app.errorhandler(500)
    async def sorry(error):
        session["errors"] = session.get("errors", 0) + 1
        return "sorry", 500

    await site.visit(then(lambda session: 1 / 0))
    assert await site.look() == {**LOGIN, "errors": 1}


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD"])
async def test_a_path_without_a_view_has_a_session(tmp_path, method):
    app = Quart(__name__, instance_path=str(tmp_path))
    app.config["SESSION_TYPE"] = "memory"
    Session(app)

    @app.before_request
    async def count():
        session["n"] = session.get("n", 0) + 1

    @app.errorhandler(HTTPException)
    async def show(error):
        return str(session["n"]), error.code

    client = app.test_client()
    first = await client.open("/nowhere", method=method)
    second = await client.get("/nowhere")
    assert first.status_code == second.status_code == 404
    assert await second.get_data(as_text=True) == "2"


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD"])
async def test_methods_that_quart_answers_itself_only_load_the_session(site, method):
    await site.visit(then(None))
    response = await site.visit(method=method)
    assert response.status_code == 200
    assert site.store.calls == ["get"]


async def test_a_streamed_response_sends_the_cookie_first(site):
    async def body():
        yield b"one "
        yield b"two"

    response = await site.visit(then(lambda session: Response(body())))
    assert await response.get_data() == b"one two"
    assert await site.look() == LOGIN


async def test_a_change_in_the_body_of_a_stream_is_logged_as_lost(site, caplog):
    from quart import stream_with_context

    def action(quart_session):
        @stream_with_context
        async def body():
            session["late"] = True
            yield b"x"

        return Response(body())

    response = await site.visit(action)
    await response.get_data()
    assert "after it was saved; the change is lost" in caplog.text


async def test_a_logout_in_the_body_of_a_stream_is_logged_as_lost(site, caplog):
    from quart import stream_with_context

    def action(_):
        @stream_with_context
        async def body():
            session.destroy()
            yield b"x"

        return Response(body())

    await site.visit(lambda session: session.update(LOGIN))
    response = await site.visit(action)
    await response.get_data()
    assert "after it was saved; the change is lost" in caplog.text
    assert await site.look() == LOGIN


async def test_a_failing_save_is_tried_once(new_site):
    site = new_site(PROPAGATE_EXCEPTIONS=False)
    seen = []

    @site.app.errorhandler(500)
    async def sorry(error):
        seen.append(error.original_exception)
        session["errors"] = 1
        return "sorry", 500

    response = await site.visit(then(lambda session: session.update(bad=object())))
    assert response.status_code == 500
    assert "bad" in str(seen[0])
    assert site.store.calls == []
    assert "Set-Cookie" not in response.headers


async def test_a_response_that_replaces_another_carries_the_cookie(new_site):
    """A receiver of ``request_finished`` that fails makes Quart answer a second time."""
    from quart import request_finished

    site = new_site(PROPAGATE_EXCEPTIONS=False)
    failures = [RuntimeError("once")]

    async def fail(sender, **extra):
        if failures:
            raise failures.pop()

    with request_finished.connected_to(fail, site.app):
        response = await site.visit(then(None))
    assert response.status_code == 500
    assert site.store.calls == ["set", "get"]
    assert await site.look() == LOGIN


async def test_synchronous_views_have_the_session(site):
    @site.app.route("/sync")
    def sync():
        session.update(LOGIN)
        return "ok"

    await site.visit(path="/sync")
    assert await site.look() == LOGIN


async def test_a_background_task_sees_the_session(site):
    from quart import copy_current_request_context, current_app

    seen = {}

    async def later():
        seen.update(session)

    async def start(session):
        session.update(LOGIN)
        current_app.add_background_task(copy_current_request_context(later))

    async with site.app.test_app():
        await site.visit(start)
    assert seen == LOGIN


# pymongo's own time-outs run on for a while in the context of the request.
@pytest.mark.parametrize("store", sorted(BACKENDS.keys() - {"mongodb"}), indirect=True)
async def test_nothing_keeps_a_session_alive_after_its_request(site, collected):
    """Neither a cycle until the garbage collector comes, nor a timer until its time has come."""
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: session.update(visits=1))  # Redis learns the scripts
    kept = []

    def note(session):
        session["visits"] += 1
        kept.append(weakref.ref(session._get_current_object()))

    gc.disable()
    try:
        await site.visit(note)
        with anyio.move_on_after(0.4):  # tasks and threads may have to end; timers go on for longer
            while kept[0]() is not None:  # noqa: ASYNC110 -- no event tells
                await anyio.sleep(0.01)
        assert kept[0]() is None
    finally:
        gc.enable()
