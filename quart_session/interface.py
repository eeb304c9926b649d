"""The way of one request: open the session from its cookie, save it, tell the browser."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable
from hashlib import sha256
from random import random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from quart import current_app
from quart.sessions import SessionInterface as QuartSessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from quart_session import cookie
from quart_session.errors import CodecError, ConfigError, SessionConflict, SessionError, StoreError
from quart_session.merge import changed_keys, merge
from quart_session.serializer import TaggedJSONSerializer
from quart_session.session import Origin, Phase, ServerSideSession
from quart_session.stores.base import ABSENT, Conflict, Expect, Store, Version

if TYPE_CHECKING:
    from quart import Quart
    from quart.sessions import SessionMixin
    from quart.wrappers import Response
    from quart.wrappers.base import BaseRequestWebsocket
    from werkzeug.wrappers import Response as WerkzeugResponse

    from quart_session.config import SessionConfig

logger = logging.getLogger("quart_session")

T = TypeVar("T")

REFRESH_BELOW = 0.9
"""A life is extended only when less than this share of it is left."""

REFRESH_UNKNOWN = 60.0
"""Seconds between two extensions where the backend cannot tell how much is left."""

REFRESH_KEPT = 100_000
"""So many of those are remembered; then all are forgotten, which costs one extension each."""

CONFLICT_PAUSE = 0.01
"""Seconds, at most, between two tries of a save that others came before."""


class SessionInterface(QuartSessionInterface):
    """Sessions of one application in one store.

    ``Session(app)`` makes it; ``app.session_interface`` is it. Besides its work for Quart it gives
    the application the backend as a cache: :meth:`get`, :meth:`set` and :meth:`delete`.
    """

    session_class = ServerSideSession

    serializer: Any
    """Any object with ``dumps`` and ``loads``, ``pickle`` for example. The ``dumps`` of a
    replacement may give str or bytes; its ``loads`` gets the same."""

    def __init__(self, store: Store, config: SessionConfig) -> None:
        self.store = store
        self.config = config
        self.key_prefix = config.key_prefix
        if not hasattr(self, "serializer"):
            self.serializer = TaggedJSONSerializer(tags=config.tags)
        self._last_refresh: dict[str, float] = {}
        self._static_prefixes: tuple[str, ...] = ()
        self._known_views = -1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if overridden := {"get", "set", "delete"} & vars(cls).keys():
            raise ConfigError(
                f"{cls.__name__} overrides {', '.join(sorted(overridden))}: sessions no longer "
                "pass through these methods. Write a quart_session.stores.base.Store and put an "
                "instance of it into SESSION_TYPE"
            )

    @property
    def serialize(self) -> Any:
        """Another name of :attr:`serializer`."""
        return self.serializer

    @serialize.setter
    def serialize(self, serializer: Any) -> None:
        self.serializer = serializer

    @property
    def backend(self) -> Any:
        """The store's client, for what goes beyond :meth:`get`, :meth:`set` and :meth:`delete`."""
        return self.store.backend

    async def create(self, app: Quart | None = None) -> None:
        """Open the store now. Not needed: it opens itself when it is first used."""
        await self.store.open()

    async def close(self) -> None:
        """Release the store's client of this event loop."""
        await self.store.close()

    # -- open

    async def open_session(
        self, app: Quart, request: BaseRequestWebsocket
    ) -> ServerSideSession | None:
        """The session that the request's cookie names, or a new one.

        Never raises for a failing backend, since Quart has no error handler around it: the failure
        is kept, and the first access to the session raises
        :exc:`~quart_session.errors.SessionUnavailable`.
        """
        if not self.config.static_file and self._is_static(app, request):
            session = self.session_class()
            session._phase = Phase.UNSAVED
            return session
        name = self.get_cookie_name(app)
        try:
            for sid in cookie.read_ids(app, request, name, self.config.use_signer):
                found = await self._load(sid)
                if found is not None:
                    return found
        except Exception as error:
            logger.warning("The session is unavailable: %s", _describe(error))
            session = self.session_class()
            session._failure = error
            session._phase = Phase.UNSAVED
            return session
        return self.session_class(permanent=self.config.permanent, addr=request.remote_addr)

    async def _load(self, sid: str) -> ServerSideSession | None:
        for key in self._keys_of(sid):
            record = await self._call(self.store.get(key))
            if record is None:
                continue
            try:
                document = self._decode(record.data)
            except CodecError:
                logger.warning("A stored session is not readable; a new one takes its place")
                return None
            session = self.session_class(document, sid)
            session._origin = Origin(key, record.data, record.version, record.expires_in)
            return session
        return None

    def _keys_of(self, sid: str) -> list[str]:
        """Where the record of *sid* may lie, the right place first."""
        plain = self.key_prefix + sid
        if not self.config.hash_ids:
            return [plain]
        hashed = self.key_prefix + sha256(sid.encode()).hexdigest()
        return [hashed, plain] if cookie.is_uuid(sid) else [hashed]

    def _is_static(self, app: Quart, request: BaseRequestWebsocket) -> bool:
        """Whether the path belongs to a static folder. Quart routes only after opening."""
        if len(app.view_functions) != self._known_views:
            self._known_views = len(app.view_functions)
            self._static_prefixes = tuple(
                rule.rule.partition("<")[0]
                for rule in app.url_map.iter_rules()
                if rule.endpoint == "static" or rule.endpoint.endswith(".static")
            )
        if not request.path.startswith(self._static_prefixes):
            return False
        try:
            adapter = app.create_url_adapter(request)
            endpoint = adapter.match()[0] if adapter is not None else ""
        except (HTTPException, RoutingException):
            return False
        return endpoint == "static" or endpoint.endswith(".static")

    # -- save

    async def save_session(
        self,
        app: Quart,
        session: SessionMixin,
        response: Response | WerkzeugResponse | None,
    ) -> None:
        """Store what changed, extend the life of what was used, and set or remove the cookie.

        A save that failed is not tried again when the error page passes through here.

        :raises StoreError: the backend failed; no cookie was set.
        :raises CodecError: the session holds something that cannot be stored.
        """
        if not isinstance(session, ServerSideSession) or session._phase is Phase.UNSAVED:
            return
        try:
            stored = await self._store(app, session, response)
        except Exception:  # a cancelled save is not over: that of a websocket is made up for
            session._phase = Phase.UNSAVED
            raise
        session._phase = Phase.SAVED if stored else Phase.UNSAVED
        if response is not None:
            self._answer(app, session, response)

    async def _store(
        self, app: Quart, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> bool:
        """Bring the store up to date; False if the session was destroyed meanwhile."""
        origin = session._origin
        if origin is None:
            return not self._is_worth_storing(session, response) or await self._write(app, session)
        if session._may_have_changed() and self._has_changed(session, origin):
            return await self._write(app, session)
        await self._refresh(app, session, origin, response)
        return True

    def _is_worth_storing(
        self, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> bool:
        if session._is_empty():
            return False
        if response is None:
            logger.warning(
                "A new session was changed in a websocket; it is lost, since no cookie can be set"
            )
            return False
        if self.config.explicit and not session._forced:
            logger.debug("A new session was not stored: SESSION_EXPLICIT asks for session.dirty()")
            return False
        return True

    def _has_changed(self, session: ServerSideSession, origin: Origin) -> bool:
        """Whether there is anything to save; takes note of values that were changed in place."""
        document = session._document()
        if self._encode(document) == origin.data:
            return session._forced or session._cleared
        # A hint only: another writer may order or space the same document differently.
        changed = set(changed_keys(self._decode(origin.data), document, self._encode))
        session._my_keys |= changed
        return bool(changed) or session._forced or session._cleared

    async def _write(self, app: Quart, session: ServerSideSession) -> bool:
        """Store the session, merged with what others stored meanwhile.

        Returns False if the session was destroyed meanwhile: it is not brought back.
        """
        ttl = self._lifetime(app)
        origin = session._origin
        key = self._keys_of(session._ensure_sid())[0]
        old_key = origin.key if origin is not None and origin.key != key else None
        if old_key is not None and not await self._call(self.store.touch(old_key, ttl)):
            return self._drop(session)
        expected: Expect | Version
        expected = ABSENT if origin is None or old_key is not None else origin.version
        deadline = time.monotonic() + self.config.timeout

        while True:
            data = b""
            result: Version | Conflict | None
            if session._is_empty():
                result = await self._call(self.store.delete(key, expected))
            else:
                data = self._encode(session._document())
                result = await self._call(self.store.set(key, data, ttl, expected))
            if not isinstance(result, Conflict):
                break
            if (theirs := result.record) is None:
                return self._drop(session)
            if theirs.data == data:  # our own write, whose answer was lost
                result = theirs.version
                break
            if origin is None:
                raise SessionConflict("The id of a new session is taken; it was not saved")
            if time.monotonic() > deadline:
                raise SessionConflict("Other requests kept changing the session; it was not saved")
            if not session._cleared:
                document = self._decode(theirs.data)
                session._load(merge(session._document(), document, session._my_keys))
            expected = theirs.version
            await anyio.sleep(random() * CONFLICT_PAUSE)

        if old_key is not None:
            await self._call(self.store.delete(old_key))
        session._saved(Origin(key, data, result, ttl) if result is not None else None)
        session._cookie = "set" if result is not None else "remove"
        return True

    def _drop(self, session: ServerSideSession) -> bool:
        logger.warning("The session was destroyed meanwhile; what this request changed is lost")
        session._cookie = None
        return False

    async def _refresh(
        self,
        app: Quart,
        session: ServerSideSession,
        origin: Origin,
        response: Response | WerkzeugResponse | None,
    ) -> None:
        """Extend the life of an unchanged session that is in use, at most now and then."""
        if not app.config["SESSION_REFRESH_EACH_REQUEST"]:
            return
        if response is not None and not session._accessed and cookie.is_public(response):
            return
        ttl = self._lifetime(app)
        if not self._is_refresh_due(origin, ttl):
            return
        try:
            alive = await self._call(self.store.touch(origin.key, ttl))
        except StoreError as error:
            logger.warning("The life of a session was not extended: %s", error)
            return
        if alive:
            origin.expires_in = ttl
            if session._reserved.get("_permanent"):
                session._cookie = "set"

    def _is_refresh_due(self, origin: Origin, ttl: float) -> bool:
        if origin.expires_in is not None:
            return origin.expires_in < REFRESH_BELOW * ttl
        now = time.monotonic()
        if now - self._last_refresh.get(origin.key, -REFRESH_UNKNOWN) < REFRESH_UNKNOWN:
            return False
        if len(self._last_refresh) >= REFRESH_KEPT:
            self._last_refresh.clear()
        self._last_refresh[origin.key] = now
        return True

    def _answer(
        self, app: Quart, session: ServerSideSession, response: Response | WerkzeugResponse
    ) -> None:
        """Tell the browser and the caches."""
        if session._cookie == "set":
            expires = self.get_expiration_time(app, session)
            sid = session._ensure_sid()
            cookie.set_cookie(app, self, response, sid, expires, self.config.use_signer)
        elif session._cookie == "remove":
            cookie.remove_cookie(app, self, response)
        if session._accessed or session._cookie:
            cookie.keep_from_caches(response)

    # -- the backend as a cache

    async def get(self, key: str, app: Quart | None = None) -> str | bytes | None:
        """The value under *key*: str, or bytes where it is no UTF-8; ``None`` if there is none.

        A key of the prefix and a session id gives that session's stored document.

        :raises StoreError: the backend failed.
        """
        for place in self._places(key):
            if record := await self._call(self.store.get(place)):
                try:
                    return record.data.decode()
                except UnicodeDecodeError:
                    return record.data
        return None

    async def set(
        self,
        key: str,
        value: str | bytes | int | float,
        expiry: float | None = None,
        app: Quart | None = None,
    ) -> None:
        """Store *value* under *key* for *expiry* seconds; a number is stored as its text.

        Without *expiry* it lives as long as a session of *app*.

        :raises StoreError: the backend failed.
        """
        if expiry is None:
            expiry = self._lifetime(app or current_app)
        if expiry <= 0:
            raise ValueError(f"expiry = {expiry!r} is not allowed: it takes seconds, more than 0")
        if isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str | bytes):
            raise TypeError(f"the value must be str or bytes, not {type(value).__name__}")
        data = value.encode() if isinstance(value, str) else value
        await self._call(self.store.set(self._places(key)[0], data, expiry))

    async def delete(self, key: str, app: Quart | None = None) -> None:
        """Remove *key*; removing nothing succeeds.

        :raises StoreError: the backend failed.
        """
        for place in self._places(key):
            await self._call(self.store.delete(place))

    def _places(self, key: str) -> list[str]:
        sid = key.removeprefix(self.key_prefix)
        if key.startswith(self.key_prefix) and cookie.is_session_id(sid):
            return self._keys_of(sid)
        return [key]

    # -- helpers

    async def _call(self, call: Awaitable[T]) -> T:
        """Wait for the store, but no longer than ``SESSION_TIMEOUT``."""
        try:
            with anyio.fail_after(self.config.timeout):
                return await call
        except TimeoutError as error:
            raise StoreError(
                f"the session store did not answer within {self.config.timeout:g} s"
            ) from error

    def _lifetime(self, app: Quart) -> float:
        return app.permanent_session_lifetime.total_seconds()

    def _encode(self, document: Any) -> bytes:
        data = self.serializer.dumps(document)
        return data.encode() if isinstance(data, str) else bytes(data)

    def _decode(self, data: bytes) -> dict[Any, Any]:
        """:raises CodecError: *data* is no session document."""
        serializer = self.serializer
        try:
            wants_str = isinstance(serializer.dumps({}), str)
            document = serializer.loads(data.decode() if wants_str else data)
        except Exception as error:
            raise CodecError("these bytes are no session document") from error
        if not isinstance(document, dict):
            raise CodecError("a session document is an object of JSON, and this is none")
        return document


def _describe(error: Exception) -> str:
    """A foreign error's text may hold a key or data; ours never does."""
    return str(error) if isinstance(error, SessionError) else type(error).__name__
