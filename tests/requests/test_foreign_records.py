"""Stored bytes that this version did not write."""

import pytest

from quart_session.remains import MARKER
from quart_session.stores.base import ANY

pytestmark = pytest.mark.anyio

DOCUMENT = b'{"_permanent":true,"_addr":"192.0.2.1","user":"ada","secret":{" b":"AAEC"}}'


async def plant(site, data):
    """Put *data* where the browser's session lies."""
    await site.visit(lambda session: session.update(user="ada"))
    key = site.interface.records.keys_of(site.cookie())[0]
    await site.store.inner.set(key, data, 100, ANY)


BROKEN = {
    "nothing": b"",
    "a truncated document": DOCUMENT[:-9],
    "a list": b'["user"]',
    "a string": b'"user"',
    "a tagged value": b'{" t":["user"]}',
    "a malformed tag": b'{"user":{" u":"xyz"}}',
    "a pickle": b"\x80\x04}\x94\x8c\x04user\x94\x8c\x03ada\x94s.",
    "no UTF-8": b'{"user":"\xff"}',
    "a deep nest": b'{"user":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_session_gives_a_new_one(site, caplog, data):
    await plant(site, data)
    sid = site.cookie()
    response = await site.visit(lambda session: session.update(user="bob"))
    assert response.status_code == 200
    assert await site.look() == {"user": "bob"}
    assert site.cookie() != sid
    assert caplog.messages == ["A stored session is not readable; a new one takes its place"]


async def test_no_flipped_bit_is_a_server_error(site):
    """Some flips give another valid document; none gives an error."""
    for position in range(0, len(DOCUMENT) * 8, 5):
        data = bytearray(DOCUMENT)
        data[position // 8] ^= 1 << position % 8
        await plant(site, bytes(data))
        response = await site.visit(lambda session: session.get("user"))
        assert response.status_code == 200


async def test_an_equal_document_written_otherwise_is_not_rewritten(site):
    await plant(site, b'{ "seen" : [1, 2.50], "user": "\\u0061da", "_permanent": true }')
    assert await site.look() == {"seen": [1, 2.5], "user": "ada"}
    await site.visit(lambda session: session["seen"])
    assert site.store.calls == ["get"]
    await site.visit(lambda session: session["seen"].append(3))
    assert site.store.calls == ["get", "set"]


async def test_metadata_of_a_later_version_is_kept(site):
    await plant(site, b'{"_permanent":true,"_qs":{"new":1},"user":"ada"}')
    await site.visit(lambda session: session.update(user="bob"))
    assert await site.document() == '{"_permanent":true,"_qs":{"new":1},"user":"bob"}'
    assert await site.look() == {"user": "bob"}


async def test_metadata_that_is_none_does_no_harm(new_site):
    site = new_site(SESSION_ABSOLUTE_LIFETIME=1000)
    await plant(site, b'{"_qs":5,"user":"ada"}')
    response = await site.visit(lambda session: session.update(user="bob"))
    assert response.status_code == 200
    assert await site.look() == {"user": "bob"}


async def test_a_session_without_a_beginning_comes_to_its_deadline_by_reads_too(new_site):
    site = new_site(SESSION_ABSOLUTE_LIFETIME=1000)
    await plant(site, b'{"_permanent":true,"user":"ada"}')
    assert await site.look() == {"user": "ada"}
    response = await site.visit(lambda session: repr(session.created_at))
    assert "datetime" in (await response.get_data()).decode()
    assert site.store.calls == ["get"]


async def test_nothing_is_written_for_that_where_nothing_is_to_be_saved(new_site):
    site = new_site(SESSION_ABSOLUTE_LIFETIME=1000)
    await plant(site, b'{"_permanent":true,"user":"ada"}')

    def action(session):
        session["user"] = "eve"
        session.modified = False

    await site.visit(action)
    assert await site.look() == {"user": "ada"}


class TestVersion3:
    """Its ids are UUIDs, its keys prefix + id, its documents Flask's."""

    SID = "0b9a8f0c-7d5e-4c3b-9a2f-1e0d9c8b7a65"

    @pytest.fixture
    async def site(self, new_site):
        site = new_site()
        await self.plant(site)
        site.client.set_cookie("localhost", "session", self.SID)
        return site

    async def plant(self, site):
        document = b'{"_permanent":true,"_addr":"192.0.2.9","user":"ada","pair":{" t":[1,2]}}'
        life = 31 * 86400
        await site.store.inner.set(site.interface.key_prefix + self.SID, document, life, ANY)

    async def test_keeps_its_users_logged_in(self, site):
        seen = {}

        def look(session):
            seen.update(session)
            return session["_addr"]

        response = await site.visit(look)
        assert seen == {"user": "ada", "pair": (1, 2)}
        assert await response.get_data(as_text=True) == "'192.0.2.9'"
        assert set(site.store.calls) == {"get"}

    async def test_moves_to_the_hashed_key_at_the_next_save(self, site):
        await site.visit(lambda session: session.update(user="bob"))
        assert (await site.store.inner.get(site.interface.key_prefix + self.SID)).data == MARKER
        assert site.cookie() == self.SID
        assert (await site.look())["user"] == "bob"
        await site.visit(lambda session: session.update(user="eve"))
        assert (await site.look())["user"] == "eve"

    async def test_dies_in_both_places(self, site):
        await site.visit(lambda session: session.clear())
        assert site.cookie() is None
        await site.visit(headers={"Cookie": f"session={self.SID}"})
        assert await site.look() == {}
        await site.visit(lambda session: session.clear())

    @pytest.mark.parametrize(
        "end", [lambda s: s.clear(), lambda s: s.destroy(), lambda s: s.pop("user")]
    )
    async def test_moved_while_it_is_ended_ends_all_the_same(self, site, end):
        browser = site.app.test_client(use_cookies=False)
        cookie = {"Cookie": f"session={self.SID}"}

        async def logout(session):
            del session["pair"]
            await site.visit(
                lambda session: session.update(moved=1), client=browser, headers=cookie
            )
            end(session)

        await site.visit(logout)
        seen = {}
        await site.visit(seen.update, client=browser, headers=cookie)
        assert "user" not in seen

    @pytest.mark.parametrize(
        "end", [lambda s: s.clear(), lambda s: s.destroy(), lambda s: s.pop("user")]
    )
    async def test_in_both_places_dies_in_both(self, site, end):
        """As when a save was cut off between writing the one and ending the other."""
        key = site.interface.records.keys_of(self.SID)[0]
        await site.store.inner.set(key, b'{"user":"ada"}', 1000, ANY)
        await site.visit(end)
        seen = {}
        await site.visit(seen.update, headers={"Cookie": f"session={self.SID}"})
        assert seen == {}

    async def test_destroyed_before_it_moved_stays_destroyed(self, site, caplog):
        async def slow(session):
            session["late"] = True
            await site.store.inner.delete(site.interface.key_prefix + self.SID)

        response = await site.visit(slow)
        assert "Set-Cookie" not in response.headers
        assert await site.look() == {}
        assert "destroyed meanwhile" in caplog.text

    async def test_stays_where_it_is_where_ids_are_not_hashed(self, new_site):
        site = new_site(SESSION_HASH_IDS=False, SESSION_TAGS="flask")
        await self.plant(site)
        site.client.set_cookie("localhost", "session", self.SID)
        await site.visit(lambda session: session.update(user="bob"))
        assert site.store.calls == ["get", "set"]
        record = await site.store.inner.get(site.interface.key_prefix + self.SID)
        assert record.data == (
            b'{"_permanent":true,"_addr":"192.0.2.9","user":"bob","pair":{" t":[1,2]}}'
        )
