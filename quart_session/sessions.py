"""Names of version 3 for applications that import them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quart_session.config import SessionConfig
from quart_session.interface import SessionInterface as SessionInterface
from quart_session.session import ServerSideSession as ServerSideSession
from quart_session.stores import load_store

RedisSession = MemcachedSession = MongoDBSession = NullSession = ServerSideSession


class _NamedInterface(SessionInterface):
    """Made by hand and assigned to ``app.session_interface``. ``Session(app)`` does more: it closes
    the client when the application stops, saves the sessions of websockets that were disconnected,
    and checks the settings of the cookie."""

    def __init__(self, session_type: str, backend: Any, **settings: Any) -> None:
        known = {
            "SESSION_TYPE": session_type,
            "SESSION_KEY_PREFIX": settings.pop("key_prefix", None),
            "SESSION_USE_SIGNER": settings.pop("use_signer", None),
            "SESSION_PERMANENT": settings.pop("permanent", None),
        }
        if backend is not None:
            known[f"SESSION_{session_type.partition('+')[0].upper()}"] = backend
        if unknown := [name for name in settings if not name.startswith("SESSION_")]:
            raise TypeError(f"unexpected keyword arguments: {', '.join(unknown)}")
        config = SessionConfig.from_mapping({**settings, **known})
        super().__init__(load_store(config), config)


class RedisSessionInterface(_NamedInterface):
    """``app.session_interface = RedisSessionInterface(redis, key_prefix="session:")``, as in
    version 3."""

    def __init__(self, redis: Any = None, **settings: Any) -> None:
        super().__init__("redis", redis, **settings)


class RedisTrioSessionInterface(_NamedInterface):
    """The same under Trio, with a :class:`quart_session.redis_trio.RedisTrio` or none."""

    def __init__(self, redis: Any = None, **settings: Any) -> None:
        super().__init__("redis+trio", redis, **settings)


class MemcachedSessionInterface(_NamedInterface):
    """``app.session_interface = MemcachedSessionInterface(client, key_prefix="session:")``, as in
    version 3."""

    def __init__(self, memcached: Any = None, **settings: Any) -> None:
        super().__init__("memcached", memcached, **settings)


class MongoDBSessionInterface(_NamedInterface):
    """``app.session_interface = MongoDBSessionInterface(uri, "sessions", key_prefix="session:")``,
    as in version 3."""

    def __init__(
        self,
        mongodb_uri: str | None = None,
        collection: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        set_callback: Callable[[dict[str, Any]], object] | None = None,
        **settings: Any,
    ) -> None:
        settings |= {
            "SESSION_MONGODB_URI": mongodb_uri,
            "SESSION_MONGODB_COLLECTION": collection,
            "SESSION_MONGODB_CLIENT_KWARGS": client_kwargs,
            "SESSION_MONGODB_SET_CALLBACK": set_callback,
        }
        super().__init__("mongodb", None, **settings)


class NullSessionInterface(_NamedInterface):
    """Stores nothing, as in version 3."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("null", None, **settings)
