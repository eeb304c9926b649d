"""``Session``: puts the session interface into an application and takes care of its lifecycle."""

from __future__ import annotations

import logging

import anyio
from quart import Quart
from quart.globals import session as current_session

from quart_session.config import SessionConfig
from quart_session.errors import ConfigError, SessionError
from quart_session.interface import SessionInterface
from quart_session.session import Phase, ServerSideSession
from quart_session.stores import load_store

logger = logging.getLogger("quart_session")


class Session:
    """Server-side sessions for one application or several.

    ::

        app = Quart(__name__)
        Session(app)

    or, with a factory, ``sessions = Session()`` once and ``sessions.init_app(app)`` for each
    application. ``Session(app)`` may also be called in a function that is registered with
    ``before_serving``.

    :raises ConfigError: a ``SESSION_*`` setting is wrong.
    """

    def __init__(self, app: Quart | None = None) -> None:
        self.app = app
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Replace the application's session interface.

        :raises ConfigError: a ``SESSION_*`` setting is wrong.
        """
        config = SessionConfig.from_app(app)
        interface = SessionInterface(load_store(config), config)
        if config.trio and not interface.store.trio:
            raise ConfigError(
                f"SESSION_TYPE = {config.type!r} does not run under Trio; "
                "'sqlite', 'filesystem' and 'redis' do"
            )
        if config.type == "redis+trio" and not config.trio:
            raise ConfigError("SESSION_TYPE = 'redis+trio' is for QuartTrio; use 'redis'")
        app.session_interface = interface  # type: ignore[assignment]
        app.after_serving(interface.close)

        @app.teardown_websocket
        async def save_after_disconnect(_: BaseException | None) -> None:
            """A disconnect cancels the handler, and Quart saves the session of no cancelled one."""
            with anyio.CancelScope(shield=True):
                if app.session_interface is not interface:  # type: ignore[comparison-overlap]
                    return
                session = current_session._get_current_object()  # type: ignore[attr-defined]
                if not isinstance(session, ServerSideSession) or session._phase is not Phase.OPEN:
                    return
                try:
                    await interface.save_session(app, session, None)
                except SessionError as error:
                    logger.error("The session of a closed websocket was not saved: %s", error)
