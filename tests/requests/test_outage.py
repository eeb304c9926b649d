"""A backend that fails is never mistaken for an empty session."""

import asyncio

import pytest

from quart_session import SessionUnavailable, StoreError
from quart_session.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
async def site(new_site):
    site = new_site(PROPAGATE_EXCEPTIONS=False)
    await site.visit(lambda session: session.update(user="ada"))
    site.store.failure = StoreError("the backend is down")
    return site


async def test_a_request_that_looks_at_the_session_is_answered_503(site, caplog):
    response = await site.visit(lambda session: session.get("user"))
    assert response.status_code == 503
    assert "The session is unavailable: the backend is down" in caplog.text
    assert "Set-Cookie" not in response.headers


async def test_the_application_can_handle_it(site):
    @site.app.errorhandler(SessionUnavailable)
    async def sorry(error):
        return "come back later", 503

    response = await site.visit(lambda session: session.get("user"))
    assert await response.get_data(as_text=True) == "come back later"


async def test_a_request_that_does_not_look_at_it_works(site):
    response = await site.visit(lambda session: "fine" if not session.available else None)
    assert response.status_code == 200
    assert site.store.calls == ["get"]


async def test_a_new_visitor_who_stores_nothing_notices_nothing(site):
    visitor = site.app.test_client()
    response = await site.visit(lambda session: session.get("user"), client=visitor)
    assert response.status_code == 200


async def test_a_failed_save_is_answered_500_and_sets_no_cookie(site):
    visitor = site.app.test_client()
    errors = site.note_errors()
    response = await site.visit(lambda session: session.update(user="bob"), client=visitor)
    assert response.status_code == 500
    assert errors == [site.store.failure]
    assert site.store.calls == ["set"]
    assert "Set-Cookie" not in response.headers


async def test_a_backend_that_does_not_answer_is_given_up_on(new_site, monkeypatch, caplog):
    async def hang(key):
        await asyncio.sleep(60)

    site = new_site(PROPAGATE_EXCEPTIONS=False, SESSION_TIMEOUT=0.01)
    await site.visit(lambda session: session.update(user="ada"))
    monkeypatch.setattr(site.store.inner, "get", hang)
    response = await site.visit(lambda session: session.get("user"))
    assert response.status_code == 503
    assert "did not answer within 0.01 s" in caplog.text


async def test_the_session_is_back_when_the_backend_is(site):
    await site.visit(lambda session: session.get("user"))
    site.store.failure = None
    assert await site.look() == {"user": "ada"}


async def test_an_unexpected_error_of_a_store_is_an_outage_that_shows_no_details(site, caplog):
    site.store.failure = RuntimeError("secret key in an error text")
    response = await site.visit(lambda session: session.get("user"))
    assert response.status_code == 503
    assert "RuntimeError" in caplog.text
    assert "secret key" not in "".join(caplog.messages)
