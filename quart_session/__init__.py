"""Server-side sessions for Quart.

``Session(app)`` makes ``quart.session`` a dict that lives on the server; the browser holds only a
session id.
"""

from quart_session._hotpath import COMPILED
from quart_session.errors import (
    CodecError,
    ConfigError,
    SessionConflict,
    SessionError,
    SessionTooLarge,
    SessionUnavailable,
    StoreError,
)
from quart_session.extension import Session
from quart_session.interface import SessionInterface
from quart_session.serializer import TaggedJSONSerializer
from quart_session.session import ServerSideSession

__version__ = "4.0.0.dev0"

__all__ = [
    "COMPILED",
    "CodecError",
    "ConfigError",
    "ServerSideSession",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionInterface",
    "SessionTooLarge",
    "SessionUnavailable",
    "StoreError",
    "TaggedJSONSerializer",
]
