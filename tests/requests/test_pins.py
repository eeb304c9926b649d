"""SESSION_PROTECTION: a session belongs to the address where it began."""

import contextlib
import json

import pytest
from quart import session, websocket

from quart_session import signals
from quart_session._hotpath import new_sid
from quart_session.remains import MARKER
from quart_session.stores.base import ANY

pytestmark = pytest.mark.anyio

HOME, ELSEWHERE = "203.0.113.5", "198.51.100.9"
LOGIN = {"user": "ada"}
UUID = "0b9a8f0c-7d5e-4c3b-9a2f-1e0d9c8b7a65"


def at(address, forwarded=None):
    """A request whose peer is *address*, or on a Unix socket where that is ``None``."""
    options = {"scope_base": {"client": (address, 1) if address else None}}
    return options if forwarded is None else {**options, "headers": {"X-Forwarded-For": forwarded}}


async def login(site, **options):
    await site.visit(lambda session: session.update(LOGIN), **(options or at(HOME)))


async def look(site, **options):
    seen = {}
    await site.visit(seen.update, **options)
    return seen


async def document(site):
    stored = await site.document()
    return stored and json.loads(stored)


async def plant(site, sid=None, **document):
    """Store a session of the browser that another program wrote."""
    sid = sid or new_sid()
    key = site.interface.records.keys_of(sid)[-1]
    data = json.dumps({"_permanent": True, **document, **LOGIN}).encode()
    life = site.app.permanent_session_lifetime.total_seconds()
    await site.store.inner.set(key, data, life, ANY)
    site.client.set_cookie("localhost", "session", sid)
    return sid


@contextlib.contextmanager
def hearing():
    heard = []

    async def receiver(sender, **extra):
        heard.append(extra)

    with signals.session_address_changed.connected_to(receiver):
        yield heard


def before_call(site, name, action):
    """Let *action* happen just before the next call of that name reaches the store."""
    inner = site.store.inner
    original = getattr(inner, name)

    async def call(*args):
        setattr(inner, name, original)
        await action()
        return await original(*args)

    setattr(inner, name, call)


def other_browser(site, address):
    """A browser elsewhere that has the same cookie; it forgets what it is told."""
    return {
        "client": site.app.test_client(use_cookies=False),
        "headers": {"Cookie": f"session={site.cookie()}"},
        **at(address),
    }


SAME = [
    ("203.0.113.5", "203.0.113.5"),
    ("203.0.113.5", "::ffff:203.0.113.5"),
    ("::ffff:cb00:7105", "203.0.113.5"),
    ("2001:db8:1:2::5", "2001:db8:1:2::5"),
    ("2001:db8:1:2::5", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    ("2001:db8:1:2::5", "2001:0DB8:0001:0002::6"),
    ("fe80::5%eth0", "fe80::6%eth1"),
    (None, None),
]
OTHER = [
    ("203.0.113.5", "203.0.113.6"),
    ("203.0.113.5", "203.0.114.5"),
    ("203.0.113.5", "::203.0.113.5"),
    ("203.0.113.5", "64:ff9b::203.0.113.5"),
    ("203.0.113.5", "2001:db8::5"),
    ("2001:db8::5", "203.0.113.5"),
    ("2001:db8:1:2::5", "2001:db8:1:3::5"),
    ("2001:db8:1:2::5", "3001:db8:1:2::5"),
    ("0.0.0.0", "::"),
    ("203.0.113.5", None),
]


@pytest.mark.parametrize(("home", "now"), SAME)
async def test_the_same_address_is_let_in(new_site, home, now):
    site = new_site(SESSION_PROTECTION=True)
    await login(site, **at(home))
    assert await look(site, **at(now)) == LOGIN


@pytest.mark.parametrize(("home", "now"), OTHER)
async def test_another_address_is_not_let_in(new_site, home, now):
    site = new_site(SESSION_PROTECTION=True)
    await login(site, **at(home))
    assert await look(site, **at(now)) == {}


async def test_ipv4_by_network_where_the_application_wants_that(new_site):
    site = new_site(SESSION_PROTECTION="reject", SESSION_PROTECTION_IPV4_PREFIX=24)
    await login(site, **at("203.0.113.5"))
    assert await look(site, **at("203.0.113.250")) == LOGIN
    assert await look(site, **at("203.0.112.5")) == {}
    await login(site, **at("2001:db8:1:2::5"))
    assert await look(site, **at("2001:db8:1:3::5")) == {}


async def test_without_protection_a_session_may_be_used_from_anywhere(site):
    with hearing() as heard:
        await login(site)
        assert await look(site, **at(ELSEWHERE)) == LOGIN
    assert heard == []


class TestModes:
    @pytest.fixture(params=[True, "delete"])
    async def deleting(self, new_site, request):
        site = new_site(SESSION_PROTECTION=request.param)
        await login(site)
        return site

    async def test_delete_gives_a_new_session_and_deletes_the_old_one(self, deleting):
        site, old = deleting, deleting.cookie()
        thief = other_browser(site, ELSEWHERE)
        response = await site.visit(lambda session: session.update(new=1), **thief)
        assert response.headers["Set-Cookie"].startswith("session=")
        assert old not in response.headers["Set-Cookie"]
        assert await look(site, **at(HOME)) == {}

    async def test_delete_leaves_nothing_in_the_store(self, deleting):
        key = deleting.interface.records.keys_of(deleting.cookie())[0]
        await deleting.visit(**other_browser(deleting, ELSEWHERE))
        assert await deleting.store.inner.get(key) is None

    async def test_delete_touches_no_cookie_unless_the_new_session_is_filled(self, deleting):
        response = await deleting.visit(bool, **at(ELSEWHERE))
        assert "Set-Cookie" not in response.headers

    async def test_after_it_the_owner_can_log_in(self, deleting):
        await deleting.visit(**other_browser(deleting, ELSEWHERE))
        await login(deleting)
        assert await look(deleting, **at(HOME)) == LOGIN

    async def test_reject_gives_a_new_session_and_the_old_one_stays(self, new_site):
        site = new_site(SESSION_PROTECTION="reject")
        await login(site)
        thief = other_browser(site, ELSEWHERE)
        response = await site.visit(lambda session: session.update(new=1), **thief)
        assert site.cookie() not in response.headers["Set-Cookie"]
        assert await look(site, **thief) == {}
        assert site.store.calls == ["get"]
        assert await look(site, **at(HOME)) == LOGIN

    async def test_log_lets_it_pass(self, new_site):
        site = new_site(SESSION_PROTECTION="log")
        await login(site)
        await site.visit(lambda session: session.update(more=1), **at(ELSEWHERE))
        assert await look(site, **at(HOME)) == {**LOGIN, "more": 1}

    @pytest.mark.parametrize("mode", ["delete", "reject", "log"])
    async def test_each_tells_by_a_signal_and_a_line_in_the_log(self, new_site, mode, caplog):
        site = new_site(SESSION_PROTECTION=mode)
        await login(site)
        sid = site.cookie()
        with hearing() as heard:
            await look(site, **at(HOME))
            assert heard == []
            await look(site, **at(ELSEWHERE))
        fingerprint = site.interface.records.fingerprint(site.app, sid)
        assert heard == [{"fingerprint": fingerprint, "mode": mode, "address": ELSEWHERE}]
        assert caplog.messages == [
            f"The session {fingerprint} was used from another address; "
            f"SESSION_PROTECTION = {mode!r}"
        ]
        assert sid not in caplog.text + repr(heard)

    async def test_delete_tells_that_the_session_was_destroyed(self, deleting):
        heard = []

        async def receiver(sender, fingerprint):
            heard.append(fingerprint)

        fingerprint = deleting.interface.records.fingerprint(deleting.app, deleting.cookie())
        with signals.session_destroyed.connected_to(receiver):
            await deleting.visit(**at(ELSEWHERE))
        assert heard == [fingerprint]

    async def test_a_store_that_fails_to_delete_lets_nobody_in(self, deleting):
        async def fail():
            raise OSError("down")

        before_call(deleting, "delete", fail)
        response = await deleting.visit(lambda session: session["user"], **at(ELSEWHERE))
        assert response.status_code == 503

    async def test_the_next_cookie_of_that_name_is_tried(self, deleting):
        sid = deleting.cookie()
        other = await plant(deleting, _addr=ELSEWHERE)
        options = {
            **at(ELSEWHERE),
            "client": deleting.app.test_client(use_cookies=False),
            "headers": {"Cookie": f"session={sid}; session={other}"},
        }
        assert await look(deleting, **options) == LOGIN


class TestThePin:
    @pytest.fixture
    async def site(self, new_site):
        site = new_site(SESSION_PROTECTION="reject")
        await login(site)
        return site

    async def test_is_the_address_where_the_session_began(self, site):
        assert (await document(site))["_addr"] == HOME

    async def test_survives_clear(self, site):
        def refill(session):
            session.clear()
            session["user"] = "bob"

        await site.visit(refill, **at(HOME))
        assert (await document(site))["_addr"] == HOME
        assert await look(site, **at(ELSEWHERE)) == {}
        assert await look(site, **at(HOME)) == {"user": "bob"}

    async def test_goes_along_with_a_new_id(self, site):
        await site.visit(lambda session: session.regenerate(), **at(HOME))
        assert await look(site, **at(ELSEWHERE)) == {}
        assert await look(site, **at(HOME)) == LOGIN

    async def test_of_a_new_session_after_destroy_is_where_that_began(self, new_site):
        site = new_site(SESSION_PROTECTION="log")
        await login(site)

        def leave_a_message(session):
            session.destroy()
            session["bye"] = True

        await site.visit(leave_a_message, **at(ELSEWHERE))
        assert (await document(site))["_addr"] == ELSEWHERE

    async def test_follows_who_gets_a_new_id_from_elsewhere(self, new_site):
        """As a login does, where the mode lets it come to that."""
        site = new_site(SESSION_PROTECTION="log")
        await login(site)
        await site.visit(lambda session: session.regenerate(), **at(ELSEWHERE))
        assert (await document(site))["_addr"] == ELSEWHERE

    async def test_follows_a_new_id_even_if_others_write_meanwhile(self, new_site):
        site = new_site(SESSION_PROTECTION="log")
        await login(site)
        other = other_browser(site, HOME)

        async def regenerate(session):
            session.regenerate()
            await site.visit(lambda session: session.update(more=1), **other)

        await site.visit(regenerate, **at(ELSEWHERE))
        found = await document(site)
        assert (found["_addr"], found["more"]) == (ELSEWHERE, 1)

    async def test_is_what_the_application_sets(self, site):
        await site.visit(lambda session: setattr(session, "addr", ELSEWHERE), **at(HOME))
        assert await look(site, **at(ELSEWHERE)) == LOGIN
        assert await look(site, **at(HOME)) == {}

    async def test_of_something_else_than_an_address_fits_nobody(self, new_site):
        site = new_site(SESSION_PROTECTION="reject")
        for pin in ("office", "unknown", "203.0.113.5, 10.0.0.1", [HOME], 5, "1.2.3.4.5"):
            await plant(site, _addr=pin)
            assert await look(site, **at(HOME)) == {}


class TestWithoutAPin:
    """As another program may have stored it, or version 3 where a header was missing."""

    @pytest.fixture(params=[{}, {"_addr": ""}, {"_addr": None}, {"_addr": "<local>"}])
    async def site(self, new_site, request):
        site = new_site(SESSION_PROTECTION=True)
        await plant(site, **request.param)
        return site

    async def test_a_session_is_let_in_and_reading_it_does_not_write(self, site):
        assert await look(site, **at(ELSEWHERE)) == LOGIN
        assert await look(site, **at(HOME)) == LOGIN
        assert site.store.calls == ["get"]

    async def test_reading_a_list_in_it_does_not_write(self, site):
        await site.visit(lambda session: session.update(cart=[]), **at(None))
        await site.visit(lambda session: session["cart"], **at(HOME))
        assert site.store.calls == ["get"]

    async def test_its_next_save_pins_it(self, site):
        await site.visit(lambda session: session.update(more=1), **at(HOME))
        assert (await document(site))["_addr"] == HOME
        assert await look(site, **at(ELSEWHERE)) == {}


async def test_an_address_that_nobody_knows_protects_nothing_and_says_so(new_site, caplog):
    """Behind a Unix socket, without SESSION_REVERSE_PROXY."""
    site = new_site(SESSION_PROTECTION=True)
    await login(site, **at(None))
    for _ in range(3):
        assert await look(site, **at(None)) == LOGIN
    [message] = caplog.messages
    assert "cannot tell clients apart" in message
    assert "SESSION_REVERSE_PROXY" in message


async def test_without_protection_nobody_is_told_that_addresses_are_unknown(site, caplog):
    await login(site, **at(None))
    assert await look(site, **at(None)) == LOGIN
    assert caplog.messages == []


class TestBehindProxies:
    PROXY = "10.0.0.1"

    @pytest.fixture(params=[True, ["10.0.0.0/8"]], ids=["a number", "networks"])
    async def site(self, new_site, request):
        site = new_site(SESSION_PROTECTION="reject", SESSION_REVERSE_PROXY=request.param)
        await login(site, **at(self.PROXY, HOME))
        return site

    async def test_the_owner_is_let_in(self, site):
        assert await look(site, **at(self.PROXY, HOME)) == LOGIN

    @pytest.mark.parametrize(
        "header",
        [
            ELSEWHERE,
            f"{HOME}, {ELSEWHERE}",
            f"{HOME},{HOME}, {ELSEWHERE}",
            "",
            "unknown",
            f"{HOME}, unknown",
            None,
        ],
    )
    async def test_nobody_else_is_let_in(self, site, header):
        assert await look(site, **at(self.PROXY, header)) == {}

    async def test_a_forged_first_line_does_not_help(self, site):
        lines = [("X-Forwarded-For", HOME), ("X-Forwarded-For", ELSEWHERE)]
        options = {**at(self.PROXY), "headers": lines}
        assert await look(site, **options) == {}

    async def test_the_header_that_the_proxy_does_not_write_does_not_help(self, site):
        lines = [("Forwarded", f"for={HOME}"), ("X-Forwarded-For", ELSEWHERE)]
        assert await look(site, **{**at(self.PROXY), "headers": lines}) == {}

    async def test_a_peer_that_is_no_proxy_counts_itself(self, new_site):
        site = new_site(SESSION_PROTECTION="reject", SESSION_REVERSE_PROXY=["10.0.0.0/8"])
        await login(site, **at(self.PROXY, HOME))
        assert await look(site, **at(ELSEWHERE, HOME)) == {}

    async def test_a_header_without_the_address_is_mentioned_once(self, site, caplog):
        for _ in range(3):
            await site.visit(**at(self.PROXY))
        doubts = [message for message in caplog.messages if "cannot tell" in message]
        assert len(doubts) == 1
        assert "X-Forwarded-For" in doubts[0]

    @pytest.mark.parametrize(
        "pin",
        [
            HOME,
            f"{ELSEWHERE}, {HOME}",
            f"{ELSEWHERE},{HOME}:4711",
            f" {HOME}",
            f"::ffff:{HOME}",
        ],
    )
    async def test_a_header_that_version_3_stored_is_read_by_the_same_rule(self, site, pin):
        await plant(site, sid=UUID, _addr=pin)
        assert await look(site, **at(self.PROXY, HOME)) == LOGIN
        assert await look(site, **at(self.PROXY, ELSEWHERE)) == {}


SLOW = {
    "a change": lambda session: session.update(more=1),
    "a new id": lambda session: session.regenerate(),
    "a change and a new id": lambda session: (session.update(more=1), session.regenerate()),
    "the last key": lambda session: session.pop("user"),
    "clear": lambda session: session.clear(),
    "destroy": lambda session: session.destroy(),
}


async def places(site, sid):
    """What lies where the session may lie."""
    records = [await site.store.inner.get(key) for key in site.interface.records.keys_of(sid)]
    return [record and record.data for record in records]


@pytest.mark.parametrize("version_3", [False, True])
class TestADeletion:
    """It leaves no marker, and yet nothing that the owner does at the time undoes it."""

    @pytest.fixture
    async def site(self, new_site, version_3):
        site = new_site(SESSION_PROTECTION=True)
        await plant(site, sid=UUID if version_3 else new_sid(), _addr=HOME)
        return site

    @pytest.mark.parametrize("action", SLOW.values(), ids=SLOW)
    async def test_is_not_undone_by_a_slower_request_of_the_owner(self, site, action):
        sid = site.cookie()
        thief = other_browser(site, ELSEWHERE)
        new_ids = []

        async def slow(session):
            session.get("user")
            await site.visit(**thief)
            action(session)
            new_ids.append(session.sid)

        response = await site.visit(slow, **at(HOME))
        assert "Set-Cookie" not in response.headers
        assert not any(await places(site, sid) + await places(site, *new_ids))
        assert await look(site, **at(HOME)) == {}

    @pytest.mark.parametrize("call", ["delete", "get"])
    async def test_takes_along_what_the_owner_saves_in_the_middle_of_it(self, site, call):
        sid = site.cookie()
        owner = other_browser(site, HOME)

        async def save():
            await site.visit(lambda session: session.update(more=1), **owner)

        before_call(site, call, save)
        await site.visit(**other_browser(site, ELSEWHERE))
        assert not any(data and data != MARKER for data in await places(site, sid))

    async def test_goes_on_while_the_owner_saves_again_and_again(self, site):
        sid = site.cookie()
        owner = other_browser(site, HOME)

        async def save():
            await site.visit(
                lambda session: session.update(more=session.get("more", 0) + 1), **owner
            )
            before_call(site, "delete", save_again)

        async def save_again():
            await site.visit(lambda session: session.update(again=1), **owner)

        before_call(site, "delete", save)
        await site.visit(**other_browser(site, ELSEWHERE))
        assert not any(data and data != MARKER for data in await places(site, sid))

    @pytest.mark.parametrize(
        "end", [lambda session: session.regenerate(), lambda session: session.destroy()]
    )
    async def test_leaves_the_marker_of_an_end_that_came_first(self, site, end):
        sid = site.cookie()
        owner = other_browser(site, HOME)

        async def end_it():
            await site.visit(end, **owner)

        before_call(site, "delete", end_it)
        await site.visit(**other_browser(site, ELSEWHERE))
        assert (await places(site, sid))[0] == MARKER


async def test_a_session_of_version_3_is_rejected_once(new_site):
    site = new_site(SESSION_PROTECTION="reject")
    await plant(site, sid=UUID, _addr=HOME)
    with hearing() as heard:
        assert await look(site, **at(ELSEWHERE)) == {}
    assert len(heard) == 1
    assert await look(site, **at(HOME)) == LOGIN


class TestWebsockets:
    @pytest.fixture
    async def site(self, new_site):
        site = new_site(SESSION_PROTECTION="reject")

        @site.app.websocket("/ws")
        async def handler():
            while True:
                await websocket.send(repr(dict(session)))
                await websocket.receive()
                await session.reload()

        await login(site)
        return site

    @pytest.mark.parametrize(("address", "seen"), [(HOME, repr(LOGIN)), (ELSEWHERE, "{}")])
    async def test_are_pinned_as_well(self, site, address, seen):
        async with site.client.websocket("/ws", **at(address)) as connection:
            assert await connection.receive() == seen

    async def test_do_not_load_a_session_again_that_went_elsewhere(self, site):
        owner = other_browser(site, HOME)
        async with site.client.websocket("/ws", **at(HOME)) as connection:
            assert await connection.receive() == repr(LOGIN)
            await site.visit(lambda session: setattr(session, "addr", ELSEWHERE), **owner)
            await connection.send("reload")
            assert await connection.receive() == "{}"
