"""What a request does to the store and to the cookie."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from markupsafe import Markup

pytestmark = pytest.mark.anyio


async def test_a_visit_that_stores_nothing_leaves_no_trace(site):
    response = await site.visit(lambda session: session.get("user"))
    assert site.store.calls == []
    assert "Set-Cookie" not in response.headers


async def test_a_session_outlives_the_request(site):
    await site.visit(lambda session: session.update(user="ada"))
    assert site.store.calls == ["set"]
    assert await site.look() == {"user": "ada"}


async def test_reading_never_writes_the_store(site):
    await site.visit(lambda session: session.update(cart=[{"item": "tea"}]))
    response = await site.visit(lambda session: session["cart"][0]["item"])
    assert site.store.calls == ["get"]
    assert "Set-Cookie" not in response.headers


async def test_setting_a_key_to_the_value_it_has_writes_nothing(site):
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: session.update(user="ada"))
    assert site.store.calls == ["get"]


async def test_a_value_of_equal_worth_but_another_type_is_a_change(site):
    await site.visit(lambda session: session.update(flag=1))
    await site.visit(lambda session: session.update(flag=True))
    assert (await site.look())["flag"] is True


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session["cart"].append("milk"),
        lambda session: session["user"].__setitem__("name", "bob"),
        lambda session: session["user"]["tags"][0].append("x"),
        lambda session: next(iter(session.values())).append("milk"),
        lambda session: dict(session)["cart"].append("milk"),
    ],
    ids=["list", "dict", "list in tuple", "through values()", "through dict()"],
)
async def test_a_nested_change_is_saved(site, change):
    await site.visit(
        lambda session: session.update(cart=["tea"], user={"name": "ada", "tags": ([],)})
    )
    before = await site.look()
    await site.visit(change)
    assert site.store.calls == ["get", "set"]
    assert await site.look() != before


async def test_a_change_inside_a_set_or_an_object_in_a_tuple_is_found(site):
    await site.visit(lambda session: session.update(seen={1}, pair=([1], 2)))
    await site.visit(lambda session: session["seen"].add(2))
    assert await site.look() == {"seen": {1, 2}, "pair": ([1], 2)}


async def test_another_order_of_the_keys_is_no_change(site):
    await site.visit(lambda session: session.update(a=1, b=2))
    await site.visit(lambda session: session.update(a=session.pop("a")))
    assert site.store.calls == ["get"]


async def test_every_type_comes_back_as_it_went_in(site):
    values = {
        "tuple": (1, (2, "x")),
        "bytes": b"\x00\xff",
        "markup": Markup("<b>hi</b>"),
        "uuid": UUID(int=7),
        "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "exact": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "none": None,
        "float": 0.1,
    }
    await site.visit(lambda session: session.update(values))
    seen = await site.look()
    assert seen == values
    assert {key: type(value) for key, value in seen.items()} == {
        key: type(value) for key, value in values.items()
    }


async def test_dirty_saves_what_did_not_change(site):
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: session.dirty())
    assert site.store.calls == ["get", "set"]


async def test_modified_saves_what_did_not_change(site):
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: setattr(session, "modified", True))
    assert site.store.calls == ["get", "set"]


async def test_nothing_stores_an_empty_session(site):
    def all_but_data(session):
        session.dirty()
        session.modified = True
        session.permanent = False

    response = await site.visit(all_but_data)
    assert site.store.calls == []
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    "end",
    [lambda session: session.pop("user"), lambda s: s.clear(), lambda s: s.destroy()],
    ids=["pop", "clear", "destroy"],
)
async def test_emptying_the_session_deletes_the_record_and_the_cookie(site, end):
    await site.visit(lambda session: session.update(user="ada"))
    key = site.interface.key_prefix + site.cookie()
    response = await site.visit(end)
    assert await site.interface.get(key) is None
    assert site.cookie() is None
    assert response.headers["Set-Cookie"].startswith("session=;")


async def test_clear_and_refill_keeps_the_session(site):
    def login_again(session):
        session.clear()
        session["user"] = "bob"

    await site.visit(lambda session: session.update(user="ada", cart=[]))
    sid = site.cookie()
    await site.visit(login_again)
    assert await site.look() == {"user": "bob"}
    assert site.cookie() == sid


async def test_browsers_do_not_share_a_session(site):
    other = site.app.test_client()
    await site.visit(lambda session: session.update(user="ada"))
    await site.visit(lambda session: session.update(user="bob"), client=other)
    assert await site.look() == {"user": "ada"}
    assert await site.look(client=other) == {"user": "bob"}


async def test_applications_do_not_share_a_session(new_site):
    one, other = new_site(), new_site()
    await one.visit(lambda session: session.update(user="ada"))
    headers = {"Cookie": f"session={one.cookie()}"}
    response = await other.visit(lambda session: dict(session), headers=headers)
    assert await response.get_data(as_text=True) == "{}"


async def test_what_cannot_be_stored_is_an_error_that_names_the_path(new_site, caplog):
    site = new_site(PROPAGATE_EXCEPTIONS=False)
    response = await site.visit(lambda session: session.update(cart=[{"size": object()}]))
    assert response.status_code == 500
    assert "session['cart'][0]['size']" in caplog.text
    assert site.store.calls == []


class TestExplicit:
    @pytest.fixture
    def site(self, new_site):
        return new_site(SESSION_EXPLICIT=True)

    async def test_a_new_session_is_not_stored(self, site, caplog):
        caplog.set_level("DEBUG", "quart_session")
        response = await site.visit(lambda session: session.update(user="ada"))
        assert site.store.calls == []
        assert "Set-Cookie" not in response.headers
        assert [record.levelname for record in caplog.records] == ["DEBUG"]

    @pytest.mark.parametrize("wish", ["dirty", "modified"])
    async def test_a_new_session_is_stored_when_asked_for(self, site, wish):
        def login(session):
            session["user"] = "ada"
            if wish == "dirty":
                session.dirty()
            else:
                session.modified = True

        await site.visit(login)
        assert await site.look() == {"user": "ada"}

    async def test_an_existing_session_saves_normally(self, site):
        def login(session):
            session["cart"] = []
            session.dirty()

        await site.visit(login)
        await site.visit(lambda session: session["cart"].append("tea"))
        assert await site.look() == {"cart": ["tea"]}
