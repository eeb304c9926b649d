"""Backends by name.

A new one is a file beside this one, a line in ``BUILTIN`` and, where it needs a client library, an
extra and a line in ``NEEDS_EXTRA``.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeGuard

from quart_session.errors import ConfigError
from quart_session.stores.base import Store

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

__all__ = ["ENTRY_POINT_GROUP", "available", "load_store"]

ENTRY_POINT_GROUP = "quart_session.stores"
"""Entry points of this group name :class:`Store` subclasses of other distributions."""

# Strings, so that nobody imports a client library for a store that he does not use.
BUILTIN = {
    "filesystem": "quart_session.stores.filesystem:FilesystemStore",
    "memcached": "quart_session.stores.memcached:MemcachedStore",
    "memory": "quart_session.stores.memory:MemoryStore",
    "mongodb": "quart_session.stores.mongodb:MongoDBStore",
    "null": "quart_session.stores.null:NullStore",
    "redis": "quart_session.stores.redis:RedisStore",
    "redis+trio": "quart_session.stores.redis_trio:RedisTrioStore",
    "sqlite": "quart_session.stores.sqlite:SQLiteStore",
}
NEEDS_EXTRA = {
    "memcached": "memcached",
    "mongodb": "mongodb",
    "redis": "redis",
    "redis+trio": "redis-trio",
}

# By another client where the application runs under Trio.
UNDER_TRIO = {"redis": "redis+trio"}


def available() -> list[str]:
    """Names that ``SESSION_TYPE`` accepts here, those of entry points included.

    .. versionadded:: 4.0
    """
    return sorted({*BUILTIN, *entry_points(group=ENTRY_POINT_GROUP).names})


def load_store(config: SessionConfig) -> Store:
    """Return the store that ``SESSION_TYPE`` names, made from *config*. Does no I/O.

    With ``SESSION_ENCRYPTION_KEYS`` it is wrapped in one that encrypts.

    ``SESSION_TYPE`` is a :class:`Store` instance, which is returned as it is, the name of a builtin
    store, or the name of an entry point in the group ``quart_session.stores``.

    :raises ConfigError: there is no such store, or its client library is not installed.

    .. versionadded:: 4.0
    """
    store = _plain_store(config)
    if not config.encryption_keys:
        return store
    try:
        from quart_session.stores.encrypted import EncryptedStore
    except ImportError as error:
        raise ConfigError(
            f"SESSION_ENCRYPTION_KEYS: {error}; "
            "install what it needs with: pip install quart-session[encryption]"
        ) from error
    until = config.encryption_plaintext_until
    return EncryptedStore(store, config.encryption_keys, until or 0.0)


def _plain_store(config: SessionConfig) -> Store:
    wanted: object = config.type
    if isinstance(wanted, Store):
        return wanted
    if not isinstance(wanted, str):
        hint = f"; did you mean an instance, {wanted.__name__}()?" if _is_store(wanted) else ""
        raise ConfigError(
            f"SESSION_TYPE = {wanted!r}: expected a Store instance or one of {_choices()}{hint}"
        )
    cls = _find(UNDER_TRIO.get(wanted, wanted) if config.trio else wanted)
    if not _is_store(cls):
        raise ConfigError(
            f"SESSION_TYPE = {wanted!r}: its entry point gives {cls!r}, "
            "which is not a subclass of quart_session.stores.base.Store"
        )
    return cls.from_config(config)


def _find(name: str) -> object:
    if name in BUILTIN:
        module, _, attribute = BUILTIN[name].partition(":")
        try:
            cls: object = getattr(import_module(module), attribute)
        except ImportError as error:
            raise ConfigError(_cannot_import(name, error)) from error
        return cls
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            cls = entry_point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"SESSION_TYPE = {name!r}: the entry point {entry_point.value!r} "
                f"cannot be loaded: {error}"
            ) from error
        return cls
    raise ConfigError(_unknown(name))


def _is_store(value: object) -> TypeGuard[type[Store]]:
    return isinstance(value, type) and issubclass(value, Store)


def _cannot_import(name: str, error: ImportError) -> str:
    message = f"SESSION_TYPE = {name!r}: {error}"
    if name in NEEDS_EXTRA:
        message += f"; install the client with: pip install quart-session[{NEEDS_EXTRA[name]}]"
    return message


def _unknown(name: str) -> str:
    close = get_close_matches(name.lower(), available(), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"SESSION_TYPE = {name!r}: expected a Store instance or one of {_choices()}{hint}"


def _choices() -> str:
    return ", ".join(repr(name) for name in available())
