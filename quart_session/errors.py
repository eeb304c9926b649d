"""What can go wrong, one class each. Every error of this package is a :class:`SessionError`."""

from __future__ import annotations

from werkzeug.exceptions import ServiceUnavailable


class SessionError(Exception):
    """Root of all errors that this package raises on purpose.

    .. versionadded:: 4.0
    """


class ConfigError(SessionError, ValueError):
    """A setting is wrong; the message names the key, the value and what is allowed.

    .. versionadded:: 4.0
    """


class CodecError(SessionError, ValueError):
    """A value cannot be stored, or bytes are no valid session document.

    When encoding, the message names the path and the type:
    ``session['cart'][3]['size']: object of type Widget``.

    .. versionadded:: 4.0
    """


class StoreError(SessionError):
    """The backend failed or did not answer in time. ``__cause__`` is the client's own error.

    .. versionadded:: 4.0
    """


class SessionUnavailable(SessionError, ServiceUnavailable):
    """The session could not be loaded because its backend failed. HTTP status 503.

    Raised by the first access to ``session``; a route that does not touch the session works on.

    .. versionadded:: 4.0
    """


class SessionConflict(SessionError):
    """Other requests kept changing the session until ``SESSION_TIMEOUT``; nothing was saved.

    .. versionadded:: 4.0
    """


class SessionTooLarge(SessionError):
    """The session takes more than ``SESSION_MAX_BYTES``, or than memcached takes.

    Nothing was sent; the old record stays.

    .. versionadded:: 4.0
    """
