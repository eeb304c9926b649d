"""The way of one request: open the session from its cookie, save it, tell the browser."""

from __future__ import annotations

import logging
import time
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from quart import Websocket, has_request_context, request
from quart.sessions import SessionInterface as QuartSessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from quart_session import cookie, signals
from quart_session.cache import BackendAsCache
from quart_session.commit import Commit, has_changed
from quart_session.errors import CodecError, ConfigError, SessionError
from quart_session.pin import Pins
from quart_session.records import Found, Records
from quart_session.remains import is_alive
from quart_session.serializer import TaggedJSONSerializer
from quart_session.session import METADATA, Origin, Phase, ServerSideSession
from quart_session.sessions_of_users import SessionsOfUsers
from quart_session.stores.base import Store
from quart_session.users import UserIndex, claimed_by, user_of

if TYPE_CHECKING:
    from quart import Quart
    from quart.sessions import SessionMixin
    from quart.wrappers import Response
    from quart.wrappers.base import BaseRequestWebsocket
    from werkzeug.wrappers import Response as WerkzeugResponse

    from quart_session.config import SessionConfig

logger = logging.getLogger("quart_session")

REFRESH_BELOW = 0.9
"""A life is extended only when less than this share of it is left."""

ROUNDING = 3.0
"""Seconds by which a backend may round a life up. One that is longer still is cut: since it began,
the lifetime was made shorter."""

REFRESH_UNKNOWN = 60.0
"""Seconds between two extensions where the backend cannot tell how much is left, or less where a
life is so short that it would end meanwhile."""

REFRESH_KEPT = 100_000
"""So many of those are remembered; then all are forgotten, which costs one extension each."""

_DELETED = object()

LONGEST_AGENT = 200
"""Characters of a ``User-Agent`` that are kept for the page that lists a user's sessions."""


class SessionInterface(BackendAsCache, SessionsOfUsers, QuartSessionInterface):
    """Sessions of one application in one store.

    ``Session(app)`` makes it; ``app.session_interface`` is it. Besides its work for Quart it lists
    and ends the sessions of a user, and gives the application the backend as a cache.
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
        self.records = Records(store, config, lambda: self.serializer)
        self.pins = Pins(config, self.records)
        self.users = UserIndex(self.records, config)
        if config.user_key is not None or config.max_per_user is not None:
            self.check_user_index()
        self._last_refresh: dict[str, float] = {}
        self._has_warned = False
        self._static_prefixes: tuple[str, ...] = ()
        self._known_views = -1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        overridden = [
            name
            for name in ("get", "set", "delete")
            if getattr(cls, name) is not getattr(BackendAsCache, name)
        ]
        if overridden:
            raise ConfigError(
                f"{cls.__name__} overrides {', '.join(overridden)}: sessions no longer "
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

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> ServerSideSession:
        """The session that the request's cookie names, or a new one.

        Never raises for a failing backend, since Quart has no error handler around it: the failure
        is kept, and the first access to the session raises
        :exc:`~quart_session.errors.SessionUnavailable`.
        """
        if not self.config.static_file and self._is_static(app, request):
            session = self.session_class()
            session._phase = Phase.STATIC
            return session
        try:
            session = await self._find(app, request)
        except Exception as error:
            logger.warning("The session is unavailable: %s", _describe(error))
            session = self.session_class()
            session._failure = error
            session._anonymous = self.config.on_outage == "anonymous"
            session._phase = Phase.UNSAVED
        session._in_websocket = isinstance(request, Websocket)
        session._home = (self, app)
        session._user_agent = partial(_user_agent, request)
        return session

    async def _find(self, app: Quart, request: BaseRequestWebsocket) -> ServerSideSession:
        superseded = False
        client = self.pins.proxies.client_of(request)
        name = self.get_cookie_name(app)
        for sid, outdated in cookie.read_ids(app, request, name, self.config.use_signer):
            found = await self.records.look_up(sid)
            if found is None:
                continue
            if not is_alive(found.record):
                superseded = True
                continue
            session = self.session_class(sid=found.sid)
            session._client = client
            if self._take_over(session, found) and await self.pins.admit(app, session):
                session._outdated = outdated or found.sid != sid
                await self.records.announce(app, signals.session_loaded, found.sid)
                return session
        session = self.session_class(permanent=self.config.permanent, addr=client.name)
        session._client = client
        session._superseded = superseded
        return session

    def _take_over(self, session: ServerSideSession, found: Found) -> bool:
        """Let *session* be what was found; False if that is no session any more."""
        sid, key, record = found
        try:
            session._load(self.records.decode(record.data))
        except CodecError:
            logger.warning("A stored session is not readable; a new one takes its place")
            return False
        left = session._seconds_to_deadline(self.config.absolute_lifetime)
        if left is not None and left <= 0:
            return False
        expires_at = None if record.expires_in is None else time.time() + record.expires_in
        session._sid = sid  # a regenerate() that was not saved is forgotten, too
        user_id = user_of(session._document(), self.config.user_key)
        noted = None if user_id is None else (user_id, key)
        session._saved(Origin(sid, key, record.data, record.version, expires_at, noted))
        return True

    async def load_again(self, app: Quart, session: ServerSideSession) -> None:
        """The work of :meth:`ServerSideSession.reload`."""
        if session._origin is None:
            return
        forgotten, session._my_keys = session._my_keys, set()
        try:
            found = await self.records.look_up(session._origin.sid)
        except BaseException:
            session._my_keys |= forgotten
            raise
        meanwhile = {key: session.get(key, _DELETED) for key in session._my_keys - {METADATA}}
        if (
            found is None
            or not is_alive(found.record)
            or not self._take_over(session, found)
            or not await self.pins.admit(app, session)
        ):
            session._load({})
            session._saved(None)
            session._cookie = None
            session._phase = Phase.UNSAVED
            return
        for key, value in meanwhile.items():
            if value is _DELETED:
                session.pop(key, None)
            else:
                session[key] = value

    def _is_static(self, app: Quart, request: BaseRequestWebsocket) -> bool:
        """Whether the path belongs to a static folder. Quart routes only after opening."""
        if len(app.view_functions) != self._known_views:
            self._known_views = len(app.view_functions)
            self._static_prefixes = tuple(
                rule.rule.partition("<")[0]
                for rule in app.url_map.iter_rules()
                if _serves_static_files(app, rule.endpoint)
            )
        if not request.path.startswith(self._static_prefixes):
            return False
        try:
            adapter = app.create_url_adapter(request)
            endpoint = adapter.match()[0] if adapter is not None else ""
        except (HTTPException, RoutingException):
            return False
        return _serves_static_files(app, endpoint)

    # -- save

    async def save_session(
        self,
        app: Quart,
        session: SessionMixin,
        response: Response | WerkzeugResponse | None,
    ) -> None:
        """Store what changed, extend the life of what was used, and set or remove the cookie.

        A save that failed is not tried again when the error page passes through here.

        Where it raises, no cookie was set.

        :raises CodecError: the session holds something that cannot be stored.
        :raises SessionTooLarge: it takes more than ``SESSION_MAX_BYTES``.
        :raises SessionConflict: other requests kept changing it.
        :raises StoreError: the backend failed.
        """
        if not isinstance(session, ServerSideSession) or session._phase is Phase.STATIC:
            return
        if session._phase is not Phase.UNSAVED:
            await self._save(app, session, response)
        if response is not None:
            self._answer(app, session, response)

    async def _save(
        self, app: Quart, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> None:
        if not session._in_websocket:  # where a save is not the last word
            session._phase = Phase.SAVED
        try:
            stored = await self._store(app, session, response)
        except Exception:
            session._phase = Phase.UNSAVED
            if session._origin is not None:  # an earlier save() may owe the browser a cookie
                session._sid = session._origin.sid
            raise
        if not stored:
            session._phase = Phase.UNSAVED

    async def save_now(self, app: Quart, session: ServerSideSession) -> None:
        """The work of :meth:`ServerSideSession.save`."""
        if session._phase in (Phase.UNSAVED, Phase.STATIC):
            return
        if not await self._store(app, session, None):
            session._phase = Phase.UNSAVED
        session._loss_logged = False

    async def _store(
        self, app: Quart, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> bool:
        """Bring the store up to date; False if the session was destroyed meanwhile."""
        commit = Commit(self.records, self.users, self.config, app, session)
        if session._doomed is not None:
            if not await commit.destroy(session._doomed):
                session._cookie = None
                if not session._is_empty():
                    await commit.drop()
                return False
            session._doomed = None
            session._cookie = "remove"
        origin = session._origin
        if session._superseded:
            if not session._is_empty():
                await commit.drop()
            return False
        if origin is None:
            if self._is_worth_storing(session, response):
                await commit.create()
            return True
        # For an earlier save(), or as the response that told the browser its id may be lost.
        owes_cookie = session._cookie == "set" or session._outdated
        changed = has_changed(self.records, session, origin)
        if session._suppressed:
            session._sid = origin.sid  # a regenerate() is not stored either
        elif self._is_renewal_due(session, response):
            return await self._renew(session, origin, commit, changed)
        if changed:
            if not await commit.update(origin, self._is_refresh_due(origin, commit.ttl())):
                return False
        else:
            await self._refresh(app, session, origin, commit, response)
        if owes_cookie:
            # Where another request has ended the id, the browser may have a newer one by now.
            alive = changed or is_alive(await self.records.find(origin.key))
            session._cookie = (session._cookie or "set") if alive else None
        return True

    def _is_renewal_due(
        self, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> bool:
        """Whether the session has had its id for longer than ``SESSION_RENEW_AFTER``."""
        if self.config.renew_after is None or session._in_websocket or session._is_moving():
            return False
        if response is None or cookie.is_public(response):
            return False
        since = session._time("renewed") or session._time("created") or 0
        return time.time() - since > self.config.renew_after

    async def _renew(
        self, session: ServerSideSession, origin: Origin, commit: Commit, changed: bool
    ) -> bool:
        """Give the session a new id; if that fails, a request that changed nothing does not."""
        try:
            alive = await commit.renew(origin)
        except SessionError as error:
            if changed:
                raise
            logger.warning("A session did not get a new id: %s", error)
            return True
        if not alive:
            session._cookie = None
            if changed:
                await commit.drop()
        return alive

    def _is_worth_storing(
        self, session: ServerSideSession, response: Response | WerkzeugResponse | None
    ) -> bool:
        if session._is_empty() or session._suppressed:
            return False
        if session._in_websocket or (response is None and session._phase is not Phase.OPEN):
            if not session._loss_logged:
                session._loss_logged = True
                logger.warning("A new session is lost, since no cookie can be set here")
            return False
        bound = claimed_by(session._document(), self.config.user_key) is not None
        if self.config.explicit and not session._forced and not bound:
            logger.debug("A new session was not stored: SESSION_EXPLICIT asks for session.dirty()")
            return False
        return True

    async def _refresh(
        self,
        app: Quart,
        session: ServerSideSession,
        origin: Origin,
        commit: Commit,
        response: Response | WerkzeugResponse | None,
    ) -> None:
        """Extend the life of an unchanged session that is in use, at most now and then."""
        if not app.config["SESSION_REFRESH_EACH_REQUEST"]:
            return
        if response is not None and not session._accessed and cookie.is_public(response):
            return
        if not self._is_refresh_due(origin, commit.ttl()):
            return
        try:
            if session._has_no_beginning(self.config.absolute_lifetime):
                alive = await commit.begin(origin)
            else:
                alive = await commit.touch(origin)
        except SessionError as error:
            logger.warning("The life of a session was not extended: %s", error)
            return
        if alive and session._reserved.get("_permanent"):
            session._cookie = "set"

    def _is_refresh_due(self, origin: Origin, ttl: float) -> bool:
        if origin.expires_at is not None:
            left = origin.expires_at - time.time()
            return not REFRESH_BELOW * ttl <= left <= ttl + ROUNDING
        now = time.monotonic()
        pause = min(REFRESH_UNKNOWN, (1 - REFRESH_BELOW) * ttl)
        if now - self._last_refresh.get(origin.key, -pause) < pause:
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
            permanent = session._reserved.get("_permanent")
            expires = session.expires_at if permanent else None
            sid = session._ensure_sid()
            cookie.set_cookie(app, self, response, sid, expires, self.config.use_signer)
            self._warn_if_exposed(app)
        elif session._cookie == "remove":
            cookie.remove_cookie(app, self, response)
        if session._accessed or session._cookie:
            cookie.keep_from_caches(response)

    def _warn_if_exposed(self, app: Quart) -> None:
        if self._has_warned or not has_request_context():
            return
        if cookie.is_exposed(app, self, request):
            self._has_warned = True
            logger.warning(
                "The session cookie is sent without Secure, so it can be overheard wherever a "
                "connection is not encrypted. Set SESSION_COOKIE_SECURE = True and serve over HTTPS"
            )


def _user_agent(request: BaseRequestWebsocket) -> str:
    return request.headers.get("User-Agent", "")[:LONGEST_AGENT]


def _describe(error: Exception) -> str:
    """A foreign error's text may hold a key or data; ours never does."""
    return str(error) if isinstance(error, SessionError) else type(error).__name__


def _serves_static_files(app: Quart, endpoint: str) -> bool:
    """Whether Quart's own view is behind *endpoint*, of the application or of a blueprint.

    One that the application wrapped, to ask who is logged in for example, is not Quart's own.
    """
    view = app.view_functions.get(endpoint)
    return isinstance(view, MethodType) and view.__name__ == "send_static_file"
