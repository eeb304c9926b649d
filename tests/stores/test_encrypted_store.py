"""What lies in the store is of no use to anybody without the key."""

import secrets
import time
from datetime import UTC, datetime, timedelta

import pytest
from quart import Quart, session

from quart_session import ConfigError, Session
from quart_session.config import SessionConfig
from quart_session.stores import load_store
from quart_session.stores.base import ABSENT, Conflict
from quart_session.stores.encrypted import MAGIC, EncryptedStore
from quart_session.stores.memcached import MemcachedStore
from quart_session.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

SECRET = secrets.token_bytes(32)
DATA = b'{"user":"ada"}'


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.fixture
def store(inner):
    return EncryptedStore(inner, [SECRET])


async def test_the_data_comes_back(store):
    await store.set("key", DATA, 60)
    assert (await store.get("key")).data == DATA


async def test_the_data_is_not_to_be_seen(store, inner):
    await store.set("key", DATA, 60)
    stored = (await inner.get("key")).data
    assert stored.startswith(MAGIC)
    assert b"ada" not in stored
    assert b"user" not in stored


async def test_equal_data_is_not_seen_to_be_equal(store, inner):
    await store.set("key", DATA, 60)
    first = (await inner.get("key")).data
    await store.set("key", DATA, 60)
    assert (await inner.get("key")).data != first


async def test_a_value_that_was_moved_to_another_key_is_none(store, inner):
    """Else who can write to the store could put himself into another one's session."""
    await store.set("key", DATA, 60)
    await inner.set("other", (await inner.get("key")).data, 60)
    assert await store.get("other") is None


@pytest.mark.parametrize("at", range(-40, 0))
async def test_a_value_that_was_changed_is_none(store, inner, at):
    await store.set("key", DATA, 60)
    stored = bytearray((await inner.get("key")).data)
    stored[at] ^= 1
    await inner.set("key", bytes(stored), 60)
    assert await store.get("key") is None


async def test_a_value_that_was_cut_short_is_none(store, inner):
    await store.set("key", DATA, 60)
    stored = (await inner.get("key")).data
    for length in range(len(stored)):
        await inner.set("key", stored[:length], 60)
        assert await store.get("key") is None


async def test_what_is_not_encrypted_is_none(store, inner, caplog):
    await inner.set("key", DATA, 60)
    assert await store.get("key") is None
    assert "is not encrypted" in caplog.text
    assert "ada" not in caplog.text


async def test_what_is_not_encrypted_is_read_until_the_time_is_over(inner):
    store = EncryptedStore(inner, [SECRET], plaintext_until=time.time() + 60)
    await inner.set("key", DATA, 60)
    record = await store.get("key")
    assert record.data == DATA
    assert not isinstance(await store.set("key", DATA, 60, record.version), Conflict)
    assert (await inner.get("key")).data.startswith(MAGIC)
    store._plaintext_until = time.time() - 1
    assert (await store.get("key")).data == DATA
    await inner.set("key", DATA, 60)
    assert await store.get("key") is None


async def test_plaintext_is_no_way_out_after_a_failed_decryption(inner):
    store = EncryptedStore(inner, [SECRET], plaintext_until=time.time() + 60)
    await EncryptedStore(inner, [secrets.token_bytes(32)]).set("key", DATA, 60)
    assert await store.get("key") is None


class TestRotation:
    async def test_all_keys_read_and_the_first_one_writes(self, inner):
        new = secrets.token_bytes(32)
        await EncryptedStore(inner, [SECRET]).set("key", DATA, 60)
        both = EncryptedStore(inner, [new, SECRET])
        record = await both.get("key")
        assert record.data == DATA
        await both.set("key", DATA, 60, record.version)
        assert (await EncryptedStore(inner, [new]).get("key")).data == DATA
        assert await EncryptedStore(inner, [SECRET]).get("key") is None

    async def test_what_nobody_can_read_any_more_stands_in_nobodys_way(self, inner, caplog):
        await EncryptedStore(inner, [secrets.token_bytes(32)]).set("key", b"old", 60)
        store = EncryptedStore(inner, [SECRET])
        assert await store.get("key") is None
        assert "cannot be decrypted" in caplog.text
        assert not isinstance(await store.set("key", DATA, 60, ABSENT), Conflict)
        assert (await store.get("key")).data == DATA


@pytest.mark.parametrize("inner", [MemoryStore(), MemcachedStore()], ids=["memory", "memcached"])
def test_it_is_what_the_store_behind_it_is(inner):
    store = EncryptedStore(inner, [SECRET])
    for name in ("trio", "timely", "evicts", "gives_bytes", "backend"):
        assert getattr(store, name) == getattr(inner, name)


class TestSetting:
    def load(self, **settings):
        return load_store(SessionConfig.from_mapping({"SESSION_TYPE": "memory", **settings}))

    def test_nothing_is_encrypted_without_it(self):
        assert isinstance(self.load(), MemoryStore)

    @pytest.mark.parametrize(
        "key",
        [SECRET, secrets.token_urlsafe(32), secrets.token_urlsafe(32) + "="],
        ids=["bytes", "text", "padded text"],
    )
    def test_a_key_is_32_bytes_or_their_text(self, key):
        assert isinstance(self.load(SESSION_ENCRYPTION_KEYS=[key]), EncryptedStore)

    @pytest.mark.parametrize(
        "keys",
        [[], "", secrets.token_urlsafe(32), [b"short"], ["short"], ["ž" * 43], [SECRET, None], 7],
        ids=["none", "empty", "no list", "short", "short text", "no base64", "no key", "a number"],
    )
    def test_anything_else_is_refused_and_not_shown(self, keys):
        with pytest.raises(ConfigError, match="32 random bytes") as error:
            self.load(SESSION_ENCRYPTION_KEYS=keys)
        assert "short" not in str(error.value)

    def test_the_keys_are_not_in_the_repr_of_the_settings(self):
        config = SessionConfig.from_mapping({"SESSION_ENCRYPTION_KEYS": [b"k" * 32]})
        assert "kkkk" not in repr(config)

    @pytest.mark.parametrize(
        "until",
        [datetime.now(UTC) + timedelta(days=1), "2999-01-31T12:00+00:00", "2999-01-31T12:00Z"],
        ids=["datetime", "offset", "Z"],
    )
    def test_plaintext_has_an_end(self, until):
        store = self.load(
            SESSION_ENCRYPTION_KEYS=[SECRET], SESSION_ENCRYPTION_PLAINTEXT_UNTIL=until
        )
        assert store._plaintext_until > time.time()

    @pytest.mark.parametrize("until", [True, "forever", datetime(2999, 1, 1), 1e12], ids=repr)
    def test_the_end_of_plaintext_is_a_moment(self, until):
        with pytest.raises(ConfigError, match="a datetime with a time zone"):
            self.load(SESSION_ENCRYPTION_KEYS=[SECRET], SESSION_ENCRYPTION_PLAINTEXT_UNTIL=until)


async def test_an_application_keeps_its_sessions(inner):
    app = Quart(__name__)
    app.config.update(SESSION_TYPE=inner, SESSION_ENCRYPTION_KEYS=[SECRET], SESSION_USER_KEY="user")
    Session(app)

    @app.post("/<name>")
    async def log_in(name):
        session["user"] = name
        session.regenerate()
        return name

    @app.get("/")
    async def who():
        return {"user": session.get("user"), "others": await count(session.get("user"))}

    async def count(user):
        return len(await app.session_interface.sessions_of(user)) if user else 0

    @app.delete("/")
    async def log_out():
        session.destroy()
        return "bye"

    browser = app.test_client()
    await browser.post("/ada")
    assert await (await browser.get("/")).get_json() == {"user": "ada", "others": 1}
    assert all(row.data.startswith(MAGIC) for row in inner._rows.values())
    await browser.delete("/")
    assert await (await browser.get("/")).get_json() == {"user": None, "others": 0}
