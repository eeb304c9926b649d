"""What responses tell the caches between the application and the browser."""

import pytest
from quart import Response

from quart_session import StoreError

pytestmark = pytest.mark.anyio


async def test_a_response_that_looked_at_the_session_varies_by_cookie(site):
    response = await site.visit(lambda session: session.get("user"))
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


async def test_a_response_that_did_not_look_stays_as_it_is(site):
    response = await site.visit()
    assert "Vary" not in response.headers
    assert "Cache-Control" not in response.headers


async def test_a_response_that_did_not_look_stays_as_it_is_where_there_is_a_session(site):
    await site.visit(lambda session: session.update(user="ada"))
    response = await site.visit()
    assert "Vary" not in response.headers


async def test_public_becomes_private(site):
    def public(session):
        session["user"] = "ada"
        return Response("x", headers={"Cache-Control": "public, s-maxage=9, max-age=5"})

    response = await site.visit(public)
    assert response.headers["Cache-Control"] == "max-age=5, private"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CDN-Cache-Control", "max-age=60"),
        ("Cloudflare-CDN-Cache-Control", "max-age=60"),
        ("Surrogate-Control", "max-age=60"),
        ("X-Accel-Expires", "60"),
    ],
)
async def test_what_is_said_to_some_caches_is_taken_back(site, name, value):
    def public(session):
        session["user"] = "ada"
        return Response("x", headers={name: value})

    response = await site.visit(public)
    assert name not in response.headers
    assert response.headers["Cache-Control"] == "private"


async def test_no_store_stays(site):
    def secret(session):
        session["user"] = "ada"
        return Response("x", headers={"Cache-Control": "no-store", "Vary": "Accept"})

    response = await site.visit(secret)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Accept, Cookie"


@pytest.mark.parametrize("failing", ["load", "save"])
async def test_an_error_page_is_kept_from_caches_too(new_site, failing):
    site = new_site(PROPAGATE_EXCEPTIONS=False)

    @site.app.after_request
    async def declare_public(response):
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    await site.visit(lambda session: session.update(user="ada"))
    if failing == "load":
        site.store.failure = StoreError("down")
        response = await site.visit(lambda session: session.get("user"))
    else:
        response = await site.visit(lambda session: session.update(bad=object()))
    assert response.status_code >= 500
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "max-age=60, private"


async def test_stating_the_permanence_that_there_is_looks_at_nothing(site):
    await site.visit(lambda session: session.update(user="ada"))
    response = await site.visit(lambda session: setattr(session, "permanent", True))
    assert "Vary" not in response.headers


async def test_a_removed_cookie_varies(site):
    await site.visit(lambda session: session.update(user="ada"))
    response = await site.visit(lambda session: session.clear())
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"
