"""What went wrong elsewhere: each incident as an attack, and as the fault that let it succeed.

``attack`` returns whether it succeeded. ``fault`` breaks this package in the way in which the other
one was broken, so that the attack is known to succeed where it can.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from quart import Quart, session

from quart_session import Session, cookie, interface, users
from quart_session._hotpath import new_sid, sign_sid, unsign_sid
from quart_session.commit import Commit
from quart_session.records import Records
from quart_session.session import ServerSideSession
from quart_session.stores.base import ANY, Record
from quart_session.stores.encrypted import EncryptedStore
from quart_session.stores.memory import MemoryStore
from quart_session.testing import run_and_cancel

LIFETIME = 3600
DATA = b'{"user":"ada"}'


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """An application with a login, a logout and a page, and its store."""

    def __init__(self, **config: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.app = Quart(__name__)
        self.app.secret_key = "the newest key"
        self.app.config.update(
            SESSION_TYPE=self.store, PERMANENT_SESSION_LIFETIME=LIFETIME, SESSION_USER_KEY="user"
        )
        self.app.config.update(config)
        Session(self.app)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

        @self.app.post("/login/<user>")
        async def login(user: str) -> str:
            session["user"] = user
            return user

        @self.app.post("/logout")
        async def logout() -> str:
            session.destroy()
            return "bye"

        @self.app.post("/goodbye")
        async def goodbye() -> str:
            session.destroy()
            session["message"] = secrets.token_hex()
            return "bye"

        @self.app.get("/")
        async def who() -> str:
            return str(session.get("user"))

        @self.app.get("/message")
        async def message() -> str:
            return str(session.get("message"))

        @self.app.get("/is-logged-in")
        async def is_logged_in() -> str:
            return str("user" in session)

        @self.app.get("/page")
        async def page() -> str:
            return "the same for everybody"

        @self.app.post("/slow")
        async def slow() -> str:
            session["slow"] = True
            if self.meanwhile is not None:
                await self.meanwhile()
            return "done"

        @self.app.post("/password")
        async def password() -> str:
            await self.interface.revoke_all(session["user"], except_current=True)
            return "changed"

    @property
    def interface(self) -> Any:
        return self.app.session_interface

    def browser(self, cookie: str | None = None) -> Any:
        browser = self.app.test_client()
        if cookie is not None:
            browser.set_cookie("localhost", "session", cookie)
        return browser

    async def logged_in(self, user: str = "ada") -> Any:
        browser = self.browser()
        await browser.post(f"/login/{user}")
        return browser

    async def user(self, browser: Any) -> str:
        response = await browser.get("/")
        text: str = await response.get_data(as_text=True)
        return text


def cookie_of(browser: Any) -> str:
    [held] = browser.cookie_jar
    value: str = held.value
    return value


Patch = pytest.MonkeyPatch


@dataclass
class Incident:
    name: str
    what: str
    attack: Callable[..., Awaitable[bool]]
    fault: Callable[[Patch], None]
    servers: tuple[str, ...] = field(default=())
    """Fixtures whose values the attack gets."""


# -- what the store tells


async def look_up_prefixes() -> bool:
    """Ids that begin alike lie side by side in an index, and how long a search takes tells it."""
    records = Shop().interface.records
    sid = new_sid()
    one, other = (records.keys_of(sid[:-1] + last)[0] for last in "Aw")
    return bool(one[:-1] == other[:-1])


def keep_ids_as_they_are(patch: Patch) -> None:
    patch.setattr(Records, "keys_of", lambda self, sid: [self._config.key_prefix + sid])


# -- caches


async def cache_a_refreshed_cookie() -> bool:
    """A page that does not use the session extends its life; a cache keeps it with the cookie."""
    shop = Shop()
    browser = await shop.logged_in()
    shop.clock.now = LIFETIME / 2
    response = await browser.get("/page")
    assert "Set-Cookie" in response.headers
    return "Cookie" not in response.vary or not response.cache_control.private


def tell_caches_nothing(patch: Patch) -> None:
    patch.setattr(cookie, "keep_from_caches", lambda response: None)


async def cache_what_was_looked_up_by_in() -> bool:
    shop = Shop()
    browser = await shop.logged_in()
    response = await browser.get("/is-logged-in")
    return "Cookie" not in response.vary


def overlook_in(patch: Patch) -> None:
    patch.setattr(ServerSideSession, "__contains__", dict.__contains__)


# -- signatures


async def use_a_key_that_was_given_up() -> bool:
    """The key had leaked, and stays as a fallback for a while. No new cookie may depend on it."""
    shop = Shop(SESSION_USE_SIGNER=True, SECRET_KEY_FALLBACKS=["a leaked key"])
    signed = cookie_of(await shop.logged_in())
    return unsign_sid(signed, ["a leaked key"]) is not None


def sign_with_the_oldest(patch: Patch) -> None:
    patch.setattr(cookie, "sign_sid", lambda sid, key: sign_sid(sid, "a leaked key"))


# -- ids that nobody issued


async def plant_an_id() -> bool:
    """The attacker makes an id up, plants it in a browser, and shares the session that begins."""
    shop = Shop()
    planted = new_sid()
    await shop.browser(planted).post("/login/ada")
    return await shop.user(shop.browser(planted)) == "ada"


async def plant_any_text() -> bool:
    shop = Shop()
    await shop.browser("attacker").post("/login/ada")
    return await shop.user(shop.browser("attacker")) == "ada"


async def plant_an_id_and_wait_for_the_login() -> bool:
    """The planted id is used before the login, too, so that its session exists by then."""
    shop = Shop()
    planted = new_sid()
    victim = shop.browser(planted)
    await victim.get("/page")
    await victim.post("/slow")
    await victim.post("/login/ada")
    return await shop.user(shop.browser(planted)) == "ada"


def adopt_any_id(patch: Patch) -> None:
    find = interface.SessionInterface._find

    async def adopting(self: Any, app: Any, request: Any) -> Any:
        found = await find(self, app, request)
        if found._origin is None and (held := request.cookies.get("session")):
            found._sid = held
        return found

    patch.setattr(cookie, "is_session_id", lambda value: True)
    patch.setattr(interface.SessionInterface, "_find", adopting)


async def fill_the_store() -> bool:
    """Requests with ids that nobody issued leave a record each."""
    shop = Shop()
    for _ in range(20):
        await shop.browser(new_sid()).get("/")
    return len(shop.store._rows) > 0


def store_what_is_empty(patch: Patch) -> None:
    patch.setattr(interface.SessionInterface, "_is_worth_storing", lambda *_: True)


# -- ends


async def share_what_comes_after_a_logout() -> bool:
    """After a logout everybody has the same id, so whoever logs out sees what others begin."""
    shop = Shop()
    browsers = [await shop.logged_in(user) for user in ("ada", "bob")]
    for browser in browsers:
        await browser.post("/goodbye")
    responses = [await browser.get("/message") for browser in browsers]
    return len({await response.get_data() for response in responses}) < 2


def give_everybody_the_same_id(patch: Patch) -> None:
    destroy = ServerSideSession.destroy

    def destroy_to_one_place(self: Any) -> None:
        destroy(self)
        self._sid = "A" * 43

    async def set_anyhow(self: Any, key: str, data: bytes, ttl: float, expected: Any = ANY) -> Any:
        return await original(self, key, data, ttl, ANY)

    original = MemoryStore.set
    patch.setattr(ServerSideSession, "destroy", destroy_to_one_place)
    patch.setattr(MemoryStore, "set", set_anyhow)


async def outlive_the_lifetime() -> bool:
    """Only the browser forgets the cookie, and the attacker's does not."""
    shop = Shop()
    stolen = cookie_of(await shop.logged_in())
    shop.clock.now = LIFETIME + 1
    return await shop.user(shop.browser(stolen)) == "ada"


def leave_it_to_the_browser(patch: Patch) -> None:
    patch.setattr(Commit, "ttl", lambda self: 1e9)


async def outlive_a_change_of_the_password() -> bool:
    shop = Shop()
    thief, owner = await shop.logged_in(), await shop.logged_in()
    await owner.post("/password")
    assert await shop.user(owner) == "ada"
    return await shop.user(thief) == "ada"


def revoke_nothing(patch: Patch) -> None:
    async def revoke(self: Any, app: Any, user_id: str, keys: Any) -> int:
        return 0

    async def alive(self: Any, user_id: str) -> list[Any]:
        return []

    patch.setattr(users.UserIndex, "revoke", revoke)
    patch.setattr(users.UserIndex, "alive", alive)


async def undo_a_logout() -> bool:
    """A slow request that was under way saves the session anew."""
    shop = Shop()
    browser = await shop.logged_in()
    stolen = cookie_of(browser)
    shop.meanwhile = lambda: browser.post("/logout")
    await shop.browser(stolen).post("/slow")
    return await shop.user(shop.browser(stolen)) == "ada"


def write_whatever_is_there(patch: Patch) -> None:
    original = MemoryStore.set

    async def set_anyhow(self: Any, key: str, data: bytes, ttl: float, expected: Any = ANY) -> Any:
        return await original(self, key, data, ttl, ANY)

    patch.setattr(MemoryStore, "set", set_anyhow)


# -- what lies in the store is not to be trusted


async def plant_a_session_without_the_key() -> bool:
    """Who can write to the store, but has no key, puts a plain session into it."""
    shop = Shop(SESSION_ENCRYPTION_KEYS=[secrets.token_bytes(32)])
    planted = new_sid()
    [key] = shop.interface.records.keys_of(planted)
    for data in (DATA, b"\x00qse1" + DATA):
        await shop.store.set(key, data, LIFETIME)
        if await shop.user(shop.browser(planted)) == "ada":
            return True
    return False


def decode_what_cannot_be_decrypted(patch: Patch) -> None:
    decrypt = EncryptedStore._decrypt

    def forgiving(self: Any, key: str, record: Record | None) -> Record | None:
        return decrypt(self, key, record) or record

    patch.setattr(EncryptedStore, "_decrypt", forgiving)


class Bomb:
    went_off = False

    def __reduce__(self) -> Any:
        return setattr, (Bomb, "went_off", True)


async def plant_a_pickle() -> bool:
    """Who can write to the store has his code run by whoever reads it."""
    shop = Shop()
    planted = new_sid()
    [key] = shop.interface.records.keys_of(planted)
    await shop.store.set(key, pickle.dumps({"user": Bomb()}), LIFETIME)
    Bomb.went_off = False
    await shop.user(shop.browser(planted))
    return Bomb.went_off


def unpickle(patch: Patch) -> None:
    patch.setattr(interface.SessionInterface, "serializer", pickle, raising=False)


# -- clients


async def inject_a_command(memcached: Any) -> bool:
    """A key with line ends is a command of its own to memcached."""
    shop = Shop(
        SESSION_TYPE="memcached",
        SESSION_MEMCACHED_HOST="127.0.0.1",
        SESSION_MEMCACHED_PORT=memcached.port,
        SESSION_USER_KEY=None,
        SESSION_TIMEOUT=5,
    )
    place = f"injected-{secrets.token_hex(8)}"
    key = f"x\r\nset {place} 0 60 4\r\nevil\r\nget x"
    try:
        async with shop.app.app_context():
            with suppress(Exception):
                await shop.interface.get(key)
            return await shop.interface.get(place) is not None
    finally:
        await shop.interface.close()


def send_keys_as_they_are(patch: Patch) -> None:
    import aiomcache.client

    from quart_session.stores import memcached

    patch.setattr(memcached, "_wire_key", lambda key: key.encode())
    patch.setattr(aiomcache.client.FlagClient, "_validate_key", lambda _, key: key)


async def read_anothers_answer(redis: Any) -> bool:
    """A request that is cancelled leaves its answer to the next one."""
    from quart_session.stores.redis import RedisStore

    store = RedisStore(redis.url + "?max_connections=1", timeout=10)
    mine, theirs = (f"incident:{secrets.token_hex(8)}" for _ in range(2))
    try:
        await store.set(mine, b"mine", 60)
        await store.set(theirs, b"theirs", 60)
        await store.get(mine)
        for at in range(50):
            if await run_and_cancel(store.get(theirs), at, native=True):
                break
            record = await store.get(mine)
            if record is None or record.data != b"mine":
                return True
        return False
    finally:
        await store.close()


def leave_the_answer(patch: Patch) -> None:
    """A client that sends, waits, and knows nothing of being cancelled."""
    from quart_session.stores.redis import RedisStore

    connections: dict[Any, Any] = {}

    async def get(self: Any, key: str) -> Record | None:
        if self not in connections:
            host, _, port = self.backend_address.partition(":")
            connections[self] = await asyncio.open_connection(host, int(port))
        reader, writer = connections[self]
        writer.write(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode())
        length = int((await reader.readline())[1:])
        data = (await reader.readexactly(length + 2))[:-2]
        return Record(data, b"", None)

    async def close(self: Any) -> None:
        _, writer = connections.pop(self)
        writer.close()
        await writer.wait_closed()
        await original_close(self)

    init, original_close = RedisStore.__init__, RedisStore.close

    def remember(self: Any, url: str, **options: Any) -> None:
        init(self, url, **options)
        self.backend_address = url.partition("://")[2].partition("?")[0]

    patch.setattr(RedisStore, "__init__", remember)
    patch.setattr(RedisStore, "get", get)
    patch.setattr(RedisStore, "close", close)


INCIDENTS = [
    Incident(
        "CVE-2019-16782",
        "Rack: ids could be found out by how long the store took to look for them",
        look_up_prefixes,
        keep_ids_as_they_are,
    ),
    Incident(
        "CVE-2023-30861",
        "Flask: a refreshed cookie without Vary: Cookie, which caches gave to others",
        cache_a_refreshed_cookie,
        tell_caches_nothing,
    ),
    Incident(
        "CVE-2026-27205",
        "Flask: `in` and `len` looked at the session without Vary: Cookie",
        cache_what_was_looked_up_by_in,
        overlook_in,
    ),
    Incident(
        "CVE-2025-47278",
        "Flask: the oldest fallback key signed, not the newest key",
        use_a_key_that_was_given_up,
        sign_with_the_oldest,
    ),
    Incident(
        "CVE-2018-1000519",
        "aiohttp-session: an id that was never issued became a session",
        plant_an_id,
        adopt_any_id,
    ),
    Incident(
        "CVE-2011-4718",
        "PHP: any text in the cookie became a session",
        plant_any_text,
        adopt_any_id,
    ),
    Incident(
        "CVE-2024-38513",
        "Fiber: a planted id lived on through the login",
        plant_an_id_and_wait_for_the_login,
        adopt_any_id,
    ),
    Incident(
        "CVE-2015-5143",
        "Django: requests with made-up ids filled the store",
        fill_the_store,
        store_what_is_empty,
    ),
    Incident(
        "CVE-2015-3982",
        "Django: after a logout, everybody had the same empty id",
        share_what_comes_after_a_logout,
        give_everybody_the_same_id,
    ),
    Incident(
        "CVE-2018-1000814",
        "aiohttp-session: only the browser ended a session",
        outlive_the_lifetime,
        leave_it_to_the_browser,
    ),
    Incident(
        "CVE-2023-40273",
        "Airflow: sessions outlived a change of the password",
        outlive_a_change_of_the_password,
        revoke_nothing,
    ),
    Incident(
        "CVE-2025-46336",
        "rack-session: a slow request brought a deleted session back",
        undo_a_logout,
        write_whatever_is_there,
    ),
    Incident(
        "CVE-2026-39324",
        "rack-session: what could not be decrypted was decoded all the same",
        plant_a_session_without_the_key,
        decode_what_cannot_be_decrypted,
    ),
    Incident(
        "CVE-2013-7489",
        "Beaker: what the store held was unpickled",
        plant_a_pickle,
        unpickle,
    ),
    Incident(
        "CVE-2022-27924",
        "Zimbra: a key with line ends was a command to memcached",
        inject_a_command,
        send_keys_as_they_are,
        servers=("memcached_server",),
    ),
    Incident(
        "CVE-2023-28858",
        "redis-py: after a cancelled request, the next one read its answer",
        read_anothers_answer,
        leave_the_answer,
        servers=("redis_server",),
    ),
]
