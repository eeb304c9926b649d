"""``app.session_interface.get/set/delete``, and other serializers."""

import json
import pickle

import flask.json.tag
import pytest

from quart_session import ConfigError, SessionInterface

pytestmark = pytest.mark.anyio


@pytest.fixture
def cache(site):
    return site.interface


@pytest.fixture
def key(site):
    """A key that no other test uses; the cache adds no prefix."""
    return site.interface.key_prefix + "cache"


async def test_str_in_str_out(cache, key):
    await cache.set(key, "naïve", expiry=3600)
    assert await cache.get(key) == "naïve"


async def test_bytes_that_are_no_text_come_back_as_bytes(cache, key):
    await cache.set(key, b"\xff\x00", expiry=3600)
    assert await cache.get(key) == b"\xff\x00"


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (0.5, "0.5")])
async def test_a_number_is_stored_as_its_text(cache, key, value, text):
    await cache.set(key, value, expiry=3600)
    assert await cache.get(key) == text


async def test_the_arguments_have_the_names_of_version_3(site, cache, key):
    await cache.set(key=key, value="v", expiry=3600, app=site.app)
    assert await cache.get(key=key, app=site.app) == "v"
    await cache.delete(key=key, app=site.app)
    assert await cache.get(key) is None


async def test_a_missing_key_is_none_and_can_be_deleted(cache, key):
    assert await cache.get(key) is None
    await cache.delete(key)


async def test_without_expiry_it_lives_as_long_as_a_session(site, cache, key):
    await cache.set(key, "outside a request", expiry=0, app=site.app)
    await site.visit(lambda session: cache.set(key, "in a request"))
    record = await site.store.inner.get(key)
    assert record.data == b"in a request"
    assert record.expires_in == pytest.approx(31 * 86400, abs=60)


async def test_a_negative_expiry_is_an_error(cache, key):
    with pytest.raises(ValueError, match="more than 0"):
        await cache.set(key, "v", expiry=-1)


async def test_a_value_of_another_type_is_an_error(cache, key):
    with pytest.raises(TypeError, match="str or bytes, not dict"):
        await cache.set(key, {}, expiry=1)


async def test_the_key_of_a_session_is_its_record(site, cache):
    await site.visit(lambda session: session.update(user="ada"))
    key = cache.key_prefix + site.cookie()
    assert json.loads(await cache.get(key))["user"] == "ada"
    await cache.set(key, '{"user":"bob"}', expiry=60)
    assert await site.look() == {"user": "bob"}
    await cache.delete(key)
    assert await site.look() == {}


async def test_create_may_still_be_called(site, cache):
    await cache.create(site.app)
    await cache.create(site.app)


@pytest.mark.parametrize("name", ["serializer", "serialize"])
@pytest.mark.parametrize(
    "serializer",
    [pickle, json, flask.json.tag.TaggedJSONSerializer()],
    ids=["pickle", "json", "flask"],
)
async def test_another_serializer_stores_sessions(site, name, serializer):
    setattr(site.interface, name, serializer)
    await site.visit(lambda session: session.update(cart=[{"item": "tea"}]))
    await site.visit(lambda session: session["cart"][0])
    assert site.store.calls == ["get"]
    await site.visit(lambda session: session["cart"].append("milk"))
    assert await site.look() == {"cart": [{"item": "tea"}, "milk"]}


async def test_a_document_that_the_new_serializer_cannot_read_is_a_new_session(site):
    await site.visit(lambda session: session.update(user="ada"))
    site.interface.serialize = pickle
    assert await site.look() == {}


async def test_what_another_serializer_cannot_store_is_a_codec_error(new_site, caplog):
    site = new_site(PROPAGATE_EXCEPTIONS=False)
    site.interface.serializer = pickle
    response = await site.visit(lambda session: session.update(value=lambda: None))
    assert response.status_code == 500
    assert "CodecError: the session cannot be stored: " in caplog.text
    assert site.store.calls == []


def test_an_inherited_override_is_an_error_too():
    class Logging:
        async def get(self, key, app=None):
            pass

    with pytest.raises(ConfigError, match="Logged overrides get:"):

        class Logged(Logging, SessionInterface):
            pass


def test_a_subclass_that_would_be_bypassed_is_an_error():
    with pytest.raises(ConfigError, match="Logged overrides get, set"):

        class Logged(SessionInterface):
            async def get(self, key, app=None):
                pass

            async def set(self, key, value, expiry=None, app=None):
                pass
