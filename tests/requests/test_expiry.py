"""Sliding expiry: a session in use lives on, at the price of a touch now and then."""

import pytest

from quart_session import StoreError
from quart_session.stores.base import Record
from quart_session.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

LIFETIME = 100


class AgingStore(MemoryStore):
    """Says that a record is as old as the test wants it."""

    left: float | None = LIFETIME

    async def get(self, key):
        record = await super().get(key)
        return record and Record(record.data, record.version, self.left)


@pytest.fixture
def store():
    return AgingStore()


async def ends_in(site):
    """Seconds until the stored session ends."""
    [key] = site.store.inner._rows
    record = await MemoryStore.get(site.store.inner, key)
    return record.expires_in


@pytest.fixture
async def site(new_site, store):
    site = new_site(PERMANENT_SESSION_LIFETIME=LIFETIME)
    await site.visit(lambda session: session.update(user="ada"))
    return site


async def test_a_young_session_is_not_touched(site, store):
    store.left = 0.91 * LIFETIME
    response = await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get"]
    assert "Set-Cookie" not in response.headers


async def test_an_older_one_is_touched_and_its_cookie_follows(site, store):
    store.left = 0.89 * LIFETIME
    response = await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get", "touch", "get"]
    assert f"session={site.cookie()}" in response.headers["Set-Cookie"]
    assert "Expires" in response.headers["Set-Cookie"]


async def test_a_request_that_does_not_look_at_the_session_uses_it_too(site, store):
    store.left = 1
    await site.visit()
    assert site.store.calls == ["get", "touch", "get"]


async def test_a_public_response_neither_touches_nor_sends_a_cookie(site, store):
    def public(session):
        from quart import Response

        return Response("page", headers={"Cache-Control": "public, max-age=60"})

    store.left = 1
    response = await site.visit(public)
    assert site.store.calls == ["get"]
    assert "Set-Cookie" not in response.headers
    assert response.headers["Cache-Control"] == "public, max-age=60"


async def test_a_session_that_is_not_permanent_is_touched_without_a_cookie(site, store):
    await site.visit(lambda session: setattr(session, "permanent", False))
    store.left = 1
    response = await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get", "touch", "get"]
    assert "Set-Cookie" not in response.headers


async def test_nothing_is_touched_where_the_application_does_not_want_it(site, store):
    site.app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    store.left = 1
    await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get"]


async def test_a_write_is_a_new_life_without_a_touch(site, store):
    store.left = 1
    response = await site.visit(lambda session: session.update(more=1))
    assert site.store.calls == ["get", "set"]
    assert f"session={site.cookie()}" in response.headers["Set-Cookie"]
    assert await ends_in(site) == pytest.approx(LIFETIME, abs=1)


async def test_a_write_to_a_young_session_moves_neither_its_end_nor_the_cookies(site, store):
    """A response that comes late, after that of a login, must not bring the old id back."""
    store.left = 0.91 * LIFETIME
    response = await site.visit(lambda session: session.update(more=1))
    assert "Set-Cookie" not in response.headers
    assert await ends_in(site) == pytest.approx(0.91 * LIFETIME, abs=1)


async def test_a_write_ends_a_life_that_is_longer_than_the_lifetime(site, store):
    """As it is after the lifetime was made shorter."""
    store.left = 5 * LIFETIME
    response = await site.visit(lambda session: session.update(more=1))
    assert await ends_in(site) == pytest.approx(LIFETIME, abs=1)
    assert "Set-Cookie" in response.headers


async def test_a_read_ends_a_life_that_is_longer_than_the_lifetime(site, store):
    store.left = 5 * LIFETIME
    await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get", "touch", "get"]


async def test_a_life_of_unknown_length_is_extended_once_a_minute(site, store):
    store.left = None
    await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get", "touch", "get"]
    await site.visit(lambda session: session["user"])
    assert site.store.calls == ["get"]


async def test_a_session_destroyed_meanwhile_gets_no_cookie(site, store, monkeypatch):
    async def gone(key, ttl):
        return False

    monkeypatch.setattr(store, "touch", gone)
    store.left = 1
    response = await site.visit(lambda session: session["user"])
    assert "Set-Cookie" not in response.headers


async def test_a_failed_touch_is_only_logged(site, store, monkeypatch, caplog):
    async def fail(key, ttl):
        raise StoreError("the backend is tired")

    monkeypatch.setattr(store, "touch", fail)
    store.left = 1
    response = await site.visit(lambda session: session["user"])
    assert response.status_code == 200
    assert "the backend is tired" in caplog.text


async def test_an_expired_session_is_a_new_one(new_site):
    from datetime import timedelta

    import anyio

    site = new_site(PERMANENT_SESSION_LIFETIME=timedelta(milliseconds=50))
    await site.visit(lambda session: session.update(user="ada"))
    await anyio.sleep(0.06)
    assert await site.look() == {}
