"""What an application can ask about the sessions of its users, and do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import current_app, has_request_context, has_websocket_context
from quart.globals import session as current_session

from quart_session.errors import ConfigError
from quart_session.records import Records
from quart_session.session import ServerSideSession, check_user_id
from quart_session.stores.base import Store
from quart_session.users import SessionHandle, UserIndex, handle_of

if TYPE_CHECKING:
    from uuid import UUID

    from quart import Quart


class SessionsOfUsers:
    """What a session interface tells the application about its users. All of it needs an
    application context.

    .. versionadded:: 4.0
    """

    store: Store
    records: Records
    users: UserIndex

    async def sessions_of(self, user_id: str | int | UUID) -> list[SessionHandle]:
        """The sessions that are bound to a user, those bound last come last.

        :raises ConfigError: the backend may drop records early, so it cannot tell.
        :raises StoreError: the backend failed.

        .. versionadded:: 4.0
        """
        self.check_user_index()
        app = _running_app()
        user = check_user_id(user_id)
        current = _current_key()
        lifetime = app.permanent_session_lifetime.total_seconds()
        return [
            handle_of(
                session,
                user,
                self.records.fingerprint_of(app, session.key),
                session.key == current,
                lifetime,
            )
            for session in await self.users.alive(user)
        ]

    async def revoke(self, handle: SessionHandle) -> bool:
        """End one session at once; False if it had ended or got a new id before.

        Nothing that still runs can bring it back. A websocket that uses it learns of it by
        ``await session.reload()`` and by the signal ``session_revoked``.

        :raises StoreError: the backend failed.

        .. versionadded:: 4.0
        """
        app = _running_app()
        return await self.users.revoke(app, handle.user_id, [handle.key]) > 0

    async def revoke_all(self, user_id: str | int | UUID, except_current: bool = False) -> int:
        """End all sessions of a user at once, for example when the password was changed.

        :param except_current: whether the session of the running request lives on.
        :returns: how many ended.
        :raises ConfigError: the backend may drop records early, so it cannot tell which there are.
        :raises StoreError: the backend failed; call it again, some may be left.

        .. versionadded:: 4.0
        """
        self.check_user_index()
        app = _running_app()
        current = _current_key() if except_current else None
        return await self.users.revoke_all(
            app, check_user_id(user_id), [current] if current else []
        )

    def check_user_index(self) -> None:
        """:raises ConfigError: the backend may drop records early."""
        if self.store.evicts:
            raise ConfigError(
                f"{type(self.store).__name__} may drop records early, so it cannot tell which "
                "sessions a user has: choose another SESSION_TYPE, or do without bind(), "
                "SESSION_USER_KEY and SESSION_MAX_PER_USER"
            )


def _current_key() -> str | None:
    """Where the session of the running request lies."""
    if not (has_request_context() or has_websocket_context()):
        return None
    session = current_session._get_current_object()  # type: ignore[attr-defined]
    if not isinstance(session, ServerSideSession) or session._origin is None:
        return None
    return session._origin.key


def _running_app() -> Quart:
    app: Quart = current_app._get_current_object()  # type: ignore[attr-defined]
    return app
