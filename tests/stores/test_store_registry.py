"""Which store SESSION_TYPE means."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

import quart_session.stores as stores
from quart_session.config import SessionConfig
from quart_session.errors import ConfigError
from quart_session.stores import load_store
from quart_session.stores.filesystem import FilesystemStore
from quart_session.stores.memcached import MemcachedStore
from quart_session.stores.memory import MemoryStore
from quart_session.stores.null import NullStore
from quart_session.stores.redis import RedisStore
from quart_session.stores.redis_trio import RedisTrioStore
from quart_session.stores.sqlite import SQLiteStore


def config(type: Any, **settings: Any) -> SessionConfig:
    return SessionConfig(type=type, instance_path="/instance", **settings)


def refusal(type: object, **settings: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load_store(config(type, **settings))
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("filesystem", FilesystemStore),
        ("memcached", MemcachedStore),
        ("memory", MemoryStore),
        ("null", NullStore),
        ("redis", RedisStore),
        ("redis+trio", RedisTrioStore),
        ("sqlite", SQLiteStore),
    ],
)
def test_a_builtin_store_goes_by_its_name(name: str, cls: type) -> None:
    assert type(load_store(config(name))) is cls


def test_redis_has_another_client_under_trio() -> None:
    assert type(load_store(config("redis", trio=True))) is RedisTrioStore
    assert type(load_store(config("redis+trio", trio=True))) is RedisTrioStore
    assert type(load_store(config("memory", trio=True))) is MemoryStore


def test_an_instance_is_used_as_it_is() -> None:
    store = MemoryStore()
    assert load_store(config(store)) is store


def test_sqlite_lies_in_the_instance_folder_unless_told_otherwise() -> None:
    def path(sqlite_path: str | None) -> Path:
        store = load_store(config("sqlite", sqlite_path=sqlite_path))
        assert isinstance(store, SQLiteStore)
        return store.path

    assert path(None) == Path("/instance/sessions.sqlite3")
    assert path("other.db") == Path("/instance/other.db")
    assert path("/var/lib/shop/sessions.db") == Path("/var/lib/shop/sessions.db")


def test_sqlite_has_no_url() -> None:
    message = refusal("sqlite", uri="sqlite:////var/lib/shop/sessions.db")
    assert message == "SESSION_URI is for servers; a file goes into SESSION_SQLITE_PATH"


def test_files_lie_in_the_instance_folder_unless_told_otherwise() -> None:
    def folder(file_dir: str | None) -> Path:
        store = load_store(config("filesystem", file_dir=file_dir))
        assert isinstance(store, FilesystemStore)
        return store.folder

    assert folder(None) == Path("/instance/sessions")
    assert folder("other") == Path("/instance/other")
    assert folder("/var/lib/shop/sessions") == Path("/var/lib/shop/sessions")


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    message = refusal("dynamodb")
    assert "SESSION_TYPE = 'dynamodb'" in message
    assert "'filesystem', 'memcached', 'memory', 'mongodb', 'null', 'redis'" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(("typed", "meant"), [("sqlit", "sqlite"), ("Redis", "redis")])
def test_a_misspelt_name_gets_a_suggestion(typed: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in refusal(typed)


def test_a_class_in_place_of_an_instance_gets_a_suggestion() -> None:
    assert "did you mean an instance, MemoryStore()?" in refusal(MemoryStore)


@pytest.mark.parametrize("value", [None, 3, object])
def test_another_kind_of_value_is_refused(value: object) -> None:
    assert f"SESSION_TYPE = {value!r}: expected a Store instance" in refusal(value)


@pytest.mark.parametrize(
    ("name", "module", "library", "extra"),
    [
        ("mongodb", "quart_session.stores.mongodb", "pymongo", "mongodb"),
        ("redis", "quart_session.stores.redis", "redis.asyncio", "redis"),
        ("redis+trio", "quart_session.stores.redis_trio", "coredis", "redis-trio"),
    ],
)
def test_a_missing_client_library_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, library: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    message = refusal(name)
    assert f"SESSION_TYPE = {name!r}" in message
    assert f"pip install quart-session[{extra}]" in message


class TestEntryPoints:
    """Another distribution names its store in the group quart_session.stores."""

    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def entry_points(group: str, **select: str) -> EntryPoints:
            assert group == "quart_session.stores"
            values = {
                "mine": "quart_session.stores.memory:MemoryStore",
                "nothing": "builtins:int",
                "gone": "quart_session.no_such_module:Store",
            }
            return EntryPoints(
                EntryPoint(name, value, group) for name, value in values.items()
            ).select(**select)

        monkeypatch.setattr(stores, "entry_points", entry_points)

    def test_its_name_is_a_choice(self) -> None:
        assert type(load_store(config("mine"))) is MemoryStore
        assert "'mine'" in refusal("dynamodb")
        assert "did you mean 'mine'?" in refusal("mime")

    def test_what_is_no_store_is_refused(self) -> None:
        assert "SESSION_TYPE = 'nothing': its entry point gives <class 'int'>" in refusal("nothing")

    def test_what_cannot_be_loaded_is_refused(self) -> None:
        message = refusal("gone")
        assert "SESSION_TYPE = 'gone'" in message
        assert "quart_session.no_such_module:Store" in message
