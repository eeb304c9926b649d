"""What responses tell the caches between the application and the browser."""

import pytest
from quart import Response

pytestmark = pytest.mark.anyio


async def test_a_response_that_looked_at_the_session_varies_by_cookie(site):
    response = await site.visit(lambda session: session.get("user"))
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


async def test_a_response_that_did_not_look_stays_as_it_is(site):
    response = await site.visit()
    assert "Vary" not in response.headers
    assert "Cache-Control" not in response.headers


async def test_not_even_when_the_browser_has_a_session(site):
    await site.visit(lambda session: session.update(user="ada"))
    response = await site.visit()
    assert "Vary" not in response.headers


async def test_public_becomes_private(site):
    def public(session):
        session["user"] = "ada"
        return Response("x", headers={"Cache-Control": "public, s-maxage=9, max-age=5"})

    response = await site.visit(public)
    assert response.headers["Cache-Control"] == "max-age=5, private"


async def test_no_store_stays(site):
    def secret(session):
        session["user"] = "ada"
        return Response("x", headers={"Cache-Control": "no-store", "Vary": "Accept"})

    response = await site.visit(secret)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Accept, Cookie"


async def test_a_removed_cookie_varies(site):
    await site.visit(lambda session: session.update(user="ada"))
    response = await site.visit(lambda session: session.clear())
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"
