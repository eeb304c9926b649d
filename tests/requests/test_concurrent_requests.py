"""Two requests of one session at once: the second one is sent while the first one runs."""

import pickle

import anyio
import anyio.lowlevel
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(new_site):
    site = new_site()
    await site.visit(lambda session: session.update(user="ada", cart=["tea"]))
    return site


def during(site, mine, theirs):
    """A view that does *mine* after another request of the same browser did *theirs*."""
    headers = {"Cookie": f"session={site.cookie()}"}
    other = site.app.test_client(use_cookies=False)

    async def action(session):
        session.get("user")
        await site.visit(theirs, client=other, headers=headers)
        mine(session)

    return action


async def test_changes_of_different_keys_are_both_kept(site):
    def mine(session):
        session["cart"].append("milk")

    def theirs(session):
        session["theme"] = "dark"
        del session["user"]

    await site.visit(during(site, mine, theirs))
    assert await site.look() == {"cart": ["tea", "milk"], "theme": "dark"}


async def test_of_the_same_key_the_last_save_counts_whole(site):
    await site.visit(
        during(
            site,
            lambda session: session["cart"].append("milk"),
            lambda session: session.update(cart=["coffee", "bread"]),
        )
    )
    assert (await site.look())["cart"] == ["tea", "milk"]


async def test_a_deletion_is_a_change(site):
    await site.visit(
        during(
            site,
            lambda session: session.pop("cart"),
            lambda session: session["cart"].append("milk"),
        )
    )
    assert await site.look() == {"user": "ada"}


async def test_a_destroyed_session_is_not_brought_back(site, caplog):
    response = await site.visit(
        during(site, lambda session: session.update(late=1), lambda session: session.clear())
    )
    assert "Set-Cookie" not in response.headers
    assert await site.look() == {}
    assert "destroyed meanwhile" in caplog.text


async def test_clear_removes_what_was_added_meanwhile(site):
    key = site.interface.key_prefix + site.cookie()
    await site.visit(
        during(site, lambda session: session.clear(), lambda session: session.update(more=1))
    )
    assert site.cookie() is None
    assert await site.interface.get(key) is None


async def test_deleting_the_last_key_keeps_what_was_added_meanwhile(site):
    def mine(session):
        del session["cart"], session["user"]

    await site.visit(during(site, mine, lambda session: session.update(more=1)))
    assert await site.look() == {"more": 1}


async def test_taking_the_last_key_out_does_not_undo_what_others_add(site):
    def theirs(session):
        del session["cart"], session["user"]

    await site.visit(during(site, lambda session: session.update(more=1), theirs))
    assert await site.look() == {"more": 1}


async def test_saves_of_one_session_queue(site, monkeypatch):
    """Each writes once, into what the one before it stored. All at once, all but one would fail,
    time after time."""
    crowd = 20
    arrived = []
    everybody = anyio.Event()
    original = site.store.inner.set

    async def set_after_a_while(*args):
        await anyio.lowlevel.checkpoint()
        return await original(*args)

    async def action(session):
        session[f"key {len(arrived)}"] = len(arrived)
        arrived.append(session)
        if len(arrived) == crowd:
            everybody.set()
        await everybody.wait()

    monkeypatch.setattr(site.store.inner, "set", set_after_a_while)
    async with anyio.create_task_group() as requests:
        for _ in range(crowd):
            requests.start_soon(site.visit, action)
    assert site.store.calls.count("set") == crowd
    assert len(await site.look()) == 2 + crowd


async def test_a_slow_clear_leaves_a_login_alone(site):
    async def clear_after_login(session):
        session.get("user")
        headers = {"Cookie": f"session={site.cookie()}"}
        other = site.app.test_client(use_cookies=False)
        await site.visit(lambda session: session.regenerate(), client=other, headers=headers)
        session.clear()

    response = await site.visit(clear_after_login)
    assert "Set-Cookie" not in response.headers


async def test_a_change_while_the_save_waits_is_logged_as_lost(site, caplog, monkeypatch):
    changed = []
    original = site.store.inner.set

    async def slow_set(*args):
        changed[0]["late"] = 1
        return await original(*args)

    def change(session):
        changed.append(session._get_current_object())
        session["early"] = 1

    monkeypatch.setattr(site.store.inner, "set", slow_set)
    await site.visit(change)
    assert "late" not in await site.look()
    assert "the change is lost" in caplog.text


async def test_pickled_sessions_merge_too(site):
    site.interface.serializer = pickle
    site.client.cookie_jar.clear()
    await site.visit(lambda session: session.update(user={"user": "ada"}, cart=[]))
    await site.visit(
        during(
            site,
            lambda session: session["cart"].append("tea"),
            lambda session: session["user"].update(user="bob"),
        )
    )
    assert await site.look() == {"user": {"user": "bob"}, "cart": ["tea"]}


async def test_a_second_save_of_the_merged_session_changes_nothing(site):
    from quart import Response

    async def save_twice(session):
        await during(
            site, lambda session: session.update(a=1), lambda session: session.update(b=2)
        )(session)
        response = Response()
        real = session._get_current_object()
        await site.interface.save_session(site.app, real, response)
        await site.interface.save_session(site.app, real, response)

    await site.visit(save_twice)
    assert await site.look() == {"user": "ada", "cart": ["tea"], "a": 1, "b": 2}
