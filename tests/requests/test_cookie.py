"""The cookie: its attributes, its signature, and which of several counts."""

import json
import time
from inspect import signature
from types import SimpleNamespace

import itsdangerous
import pytest
from growth import PROPORTIONAL, growth
from quart import Quart, Response
from werkzeug.datastructures import Headers
from werkzeug.http import parse_cookie

import quart_session.cookie
from quart_session import ConfigError, Session
from quart_session._hotpath import new_sid, sign_sid
from quart_session.cookie import is_session_id, read_ids
from quart_session.stores.base import ANY

pytestmark = pytest.mark.anyio

LOGIN = {"user": "ada"}


def attributes(header):
    return {part.strip().partition("=")[0].lower() for part in header.split(";")[1:]}


async def login(site, **options):
    return await site.visit(lambda session: session.update(LOGIN), **options)


async def test_a_permanent_session_gets_a_cookie_that_expires(site):
    response = await login(site)
    assert attributes(response.headers["Set-Cookie"]) == {"expires", "httponly", "path"}


async def test_a_session_that_is_not_permanent_ends_with_the_browser(site):
    def action(session):
        session.update(LOGIN)
        session.permanent = False

    response = await site.visit(action)
    assert attributes(response.headers["Set-Cookie"]) == {"httponly", "path"}
    assert await site.look() == LOGIN


async def test_permanence_is_remembered(new_site):
    site = new_site(SESSION_PERMANENT=False)
    await login(site)
    response = await site.visit(lambda session: setattr(session, "permanent", True))
    assert "expires" in attributes(response.headers["Set-Cookie"])
    response = await site.visit(lambda session: session.regenerate())
    assert "expires" in attributes(response.headers["Set-Cookie"])


async def test_the_settings_of_quart_shape_the_cookie_and_its_removal(new_site):
    site = new_site(
        SESSION_COOKIE_NAME="__Host-id",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PATH="/",
    )
    response = await login(site)
    header = response.headers["Set-Cookie"]
    assert header.startswith("__Host-id=")
    assert {"secure", "httponly", "samesite"} <= attributes(header)

    [sid] = parse_cookie(header.partition(";")[0]).values()
    response = await site.visit(
        lambda session: session.clear(), headers={"Cookie": f"__Host-id={sid}"}
    )
    removal = response.headers["Set-Cookie"]
    assert removal.startswith("__Host-id=;")
    assert attributes(removal) == attributes(header) | {"max-age"}


async def test_a_partitioned_cookie_where_the_application_wants_one(new_site):
    settings = {"SESSION_COOKIE_PARTITIONED": True, "SESSION_COOKIE_SECURE": True}
    if "partitioned" not in signature(Response.set_cookie).parameters:
        with pytest.raises(ConfigError, match=r"Werkzeug 3\.1"):
            new_site(**settings)
        return
    site = new_site(**settings)
    response = await login(site)
    assert "partitioned" in attributes(response.headers["Set-Cookie"])


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "a" * 42,
        "a" * 44,
        "a" * 42 + "!",
        "a" * 42 + "\u00e9",
        "../../etc/passwd",
        "a" * 65536,
        "00000000-0000-1000-8000-000000000000",
        "00000000-0000-4000-8000-00000000000g",
    ],
    ids=lambda value: ascii(value[:12]),
)
async def test_a_malformed_id_causes_no_call_to_the_store(site, value):
    response = await site.visit(
        lambda session: session.get("user"), headers={"Cookie": f"session={value}"}
    )
    assert response.status_code == 200
    assert site.store.calls == []


def test_a_line_break_is_no_part_of_an_id():
    assert not is_session_id("00000000-0000-4000-8000-000000000000\n")
    assert not is_session_id("a" * 43 + "\n")


@pytest.mark.parametrize(
    "made_up", [new_sid(), "c9a0c3f0-5d6b-4b7e-9a53-5f2f6d0e3c11"], ids=["ours", "uuid"]
)
async def test_an_id_that_was_never_issued_is_never_adopted(site, made_up):
    response = await login(site, headers={"Cookie": f"session={made_up}"})
    assert made_up not in response.headers["Set-Cookie"]
    assert await site.interface.get(site.interface.key_prefix + made_up) is None
    assert await site.look() == LOGIN


async def test_an_id_comes_in_a_cookie_only(site):
    await site.visit(lambda session: session.update(user="ada"))
    sid, other = site.cookie(), site.app.test_client()
    seen = {}
    await site.visit(seen.update, client=other, query_string={"session": sid})
    await site.visit(seen.update, client=other, path=f"/;session={sid}")
    await site.visit(seen.update, client=other, headers={"Session": sid, "X-Session-Id": sid})
    await site.visit(seen.update, client=other, method="POST", form={"session": sid})
    assert seen == {}


async def test_an_unknown_id_is_left_in_the_browser_when_nothing_is_stored(site):
    response = await site.visit(
        lambda session: session.clear(), headers={"Cookie": f"session={new_sid()}"}
    )
    assert "Set-Cookie" not in response.headers


async def test_among_duplicate_cookies_the_one_with_a_session_counts(site):
    await login(site)
    sid = site.cookie()
    browser = site.app.test_client(use_cookies=False)
    for cookies in (
        f"session={sid}; session={new_sid()}",
        f"session={new_sid()}; session={sid}",
        f"session=; session=junk; session={sid}",
        f"session={sid}; session={sid}",
    ):
        seen = {}
        await site.visit(seen.update, client=browser, headers={"Cookie": cookies})
        assert seen == LOGIN


async def test_nameless_and_quoted_cookies_and_several_lines(site):
    await login(site)
    sid = site.cookie()
    browser = site.app.test_client(use_cookies=False)
    for lines in (
        [f"nameless; =; =x; session; session={sid}"],
        [f'other="a; session={sid}'],
        [f'session="{sid}"'],
        [f"session = {sid} "],
        [f"\t;;session={sid};;"],
        ["session=junk", f"session={sid}"],
        [f"a=b; xsession={new_sid()}; session={sid}; sessionx={new_sid()}"],
        ["a=" + " " * 30_000 + '"x', f"session={sid}; \u00e9=\u00e9"],
        ["; ".join(f"other{number}=x" for number in range(1000)), f"session={sid}"],
    ):
        seen = {}
        headers = [("Cookie", line) for line in lines]
        await site.visit(seen.update, client=browser, headers=headers)
        assert seen == LOGIN, lines


UNITS = ["a=", " ", "\t", ";", "=", '"', "session=", "session=x;", 'session="', "a= ", 'a="\\', "x"]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_a_cookie_header_costs_in_proportion_to_its_length(unit, signed):
    app = Quart(__name__)
    app.secret_key = "key"

    def read(request):
        return list(read_ids(app, request, "session", signed))

    def request_of(size):
        headers = Headers([("Cookie", "a=" + unit * (size // len(unit)) + '"x')])
        return SimpleNamespace(headers=headers)

    assert growth(read, request_of(4_000), request_of(64_000)) < PROPORTIONAL


async def test_a_thousand_cookies_cause_four_calls_at_most(site):
    cookies = "; ".join(f"session={new_sid()}" for _ in range(1000))
    await site.visit(lambda session: session.get("user"), headers={"Cookie": cookies})
    assert site.store.calls == ["get"] * 4


async def test_the_store_does_not_hold_the_id(site):
    await login(site)
    key = site.interface.key_prefix + site.cookie()
    assert await site.store.inner.get(key) is None
    document = json.loads(await site.document())
    assert 0 <= time.time() - document.pop("_qs")["created"] < 60
    assert document == {"_permanent": True, "_addr": "<local>", "user": "ada"}


async def test_the_id_itself_is_the_key_where_ids_are_not_hashed(new_site):
    site = new_site(SESSION_HASH_IDS=False)
    await login(site)
    assert await site.store.inner.get(site.interface.key_prefix + site.cookie())
    assert await site.look() == LOGIN


async def test_an_application_without_a_secret_key_has_sessions(new_site):
    site = new_site()
    site.app.secret_key = None
    await login(site)
    assert await site.look() == LOGIN


FAR = {"headers": {"Host": "shop.example"}}


class TestAnUnencryptedCookie:
    """Without Secure: it is mentioned once where somebody may overhear it."""

    async def test_is_mentioned_once(self, site, caplog):
        for _ in range(3):
            response = await login(site, client=site.app.test_client(), **FAR)
            assert "Set-Cookie" in response.headers
        [message] = caplog.messages
        assert "SESSION_COOKIE_SECURE = True" in message

    @pytest.mark.parametrize("proxied", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"])
    async def test_is_mentioned_behind_a_proxy_on_the_same_machine(self, site, proxied, caplog):
        await login(site, headers={"Host": "127.0.0.1:8000", proxied: "x"})
        assert len(caplog.messages) == 1

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:80"])
    async def test_is_not_mentioned_on_the_same_machine(self, site, host, caplog):
        await login(site, headers={"Host": host})
        assert caplog.messages == []

    @pytest.mark.parametrize("switch", ["DEBUG", "TESTING", "SESSION_COOKIE_SECURE"])
    async def test_is_not_mentioned_in_development_nor_where_it_is_not_so(
        self, new_site, switch, caplog
    ):
        site = new_site(**{switch: True})
        await login(site, **FAR)
        assert caplog.messages == []

    async def test_is_not_mentioned_while_none_is_set(self, site, caplog):
        await site.visit(lambda session: session.get("user"), **FAR)
        assert caplog.messages == []


class TestSigned:
    @pytest.fixture
    def site(self, new_site):
        return new_site(SESSION_USE_SIGNER=True, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])

    async def test_a_session_outlives_the_request(self, site):
        await login(site)
        assert "." in site.cookie()
        assert await site.look() == LOGIN

    async def test_an_unsigned_or_forged_id_causes_no_call(self, site):
        await login(site)
        sid, _, signature = site.cookie().partition(".")
        browser = site.app.test_client(use_cookies=False)
        for forged in (sid, f"{sid}.", f"{sid}.{signature[:-1]}", f"{new_sid()}.{signature}"):
            await site.visit(bool, client=browser, headers={"Cookie": f"session={forged}"})
            assert site.store.calls == []

    async def test_an_older_key_still_verifies(self, site):
        await login(site)
        sid = site.cookie().partition(".")[0]
        signer = itsdangerous.Signer("old", salt="quart-session", key_derivation="hmac")
        seen = {}
        await site.visit(
            seen.update,
            client=site.app.test_client(use_cookies=False),
            headers={"Cookie": f"session={signer.sign(sid).decode()}"},
        )
        assert seen == LOGIN

    async def test_what_an_older_key_signed_is_signed_anew(self, site):
        await login(site)
        sid = site.cookie().partition(".")[0]
        cookie = sign_sid(sid, "old")
        options = {"client": site.app.test_client(use_cookies=False)}
        response = await site.visit(headers={"Cookie": f"session={cookie}"}, **options)
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        assert cookie == f"session={sign_sid(sid, 'new')}"
        response = await site.visit(headers={"Cookie": cookie}, **options)
        assert "Set-Cookie" not in response.headers

    async def test_a_key_that_was_given_up_verifies_nothing(self, site):
        await login(site)
        site.app.config["SECRET_KEY_FALLBACKS"] = ["other"]
        sid = site.cookie().partition(".")[0]
        await site.visit(
            bool,
            client=site.app.test_client(use_cookies=False),
            headers={"Cookie": f"session={sign_sid(sid, 'old')}"},
        )
        assert site.store.calls == []

    async def test_keys_are_tried_from_the_newest_on(self, site, monkeypatch):
        tried = []

        def unsign(value, keys):
            tried.extend(keys)

        monkeypatch.setattr(quart_session.cookie, "unsign_sid", unsign)
        site.app.config["SECRET_KEY_FALLBACKS"] = ["older", "oldest"]
        await site.visit(headers={"Cookie": "session=x.y"})
        assert tried == ["new", "older", "oldest"]

    async def test_a_cookie_of_version_3_verifies_and_goes_on(self, site):
        sid = "0b9a8f0c-7d5e-4c3b-9a2f-1e0d9c8b7a65"
        key = site.interface.key_prefix + sid
        await site.store.inner.set(key, b'{"_permanent":true,"user":"ada"}', 1000, ANY)
        signer = itsdangerous.Signer("new", salt="quart-session", key_derivation="hmac")
        site.client.set_cookie("localhost", "session", signer.sign(sid).decode())
        assert await site.look() == LOGIN
        await site.visit(lambda session: session.update(more=1))
        assert site.cookie() == signer.sign(sid).decode()
        assert await site.look() == {**LOGIN, "more": 1}

    async def test_needs_a_secret_key(self, new_site):
        app = Quart(__name__)
        app.config["SESSION_USE_SIGNER"] = True
        with pytest.raises(ConfigError, match=r"SESSION_USE_SIGNER = True needs a secret key"):
            Session(app)
