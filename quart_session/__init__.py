"""Server-side sessions for Quart.

``Session(app)`` makes ``quart.session`` a dict that lives on the server; the browser holds only a
session id.
"""

from quart_session._hotpath import COMPILED as COMPILED
from quart_session.errors import CodecError as CodecError
from quart_session.errors import ConfigError as ConfigError
from quart_session.errors import SessionConflict as SessionConflict
from quart_session.errors import SessionError as SessionError
from quart_session.errors import SessionTooLarge as SessionTooLarge
from quart_session.errors import SessionUnavailable as SessionUnavailable
from quart_session.errors import StoreError as StoreError
from quart_session.extension import Session as Session
from quart_session.interface import SessionInterface as SessionInterface
from quart_session.serializer import TaggedJSONSerializer as TaggedJSONSerializer
from quart_session.session import ServerSideSession as ServerSideSession

__version__ = "4.0.0.dev0"
