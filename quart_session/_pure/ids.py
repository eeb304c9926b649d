"""Session ids and their signatures."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache

_SALT = b"quart-session"
_SID = re.compile("[A-Za-z0-9_-]{43}")


def new_sid() -> str:
    """A fresh session id: 32 bytes of the operating system's randomness as base64url.

    .. versionadded:: 4.0
    """
    return secrets.token_urlsafe(32)


def is_sid(value: object, /) -> bool:
    """Whether *value* is a string with the length and the alphabet of a session id.

    .. versionadded:: 4.0
    """
    return isinstance(value, str) and _SID.fullmatch(value) is not None


@lru_cache(maxsize=16)
def derived_key(key: str | bytes) -> bytes:
    """The key that itsdangerous derives; an application has a few, and needs one every time."""
    return hmac.digest(key.encode() if isinstance(key, str) else key, _SALT, "sha1")


def _signature(text: bytes, key: str | bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(derived_key(key), text, "sha1")).rstrip(b"=")


def sign_sid(sid: str, key: str | bytes) -> str:
    """*sid*, a dot and its signature, as ``itsdangerous.Signer`` with the salt of 3.0.0 writes it.

    .. versionadded:: 4.0
    """
    return f"{sid}.{_signature(sid.encode(), key).decode('ascii')}"


def unsign_sid(value: str, keys: Sequence[str | bytes]) -> str | None:
    """The id in *value* when one of *keys* signed it, else ``None``. Keys are tried in order.

    Signatures are compared in constant time and in one spelling only.

    .. versionadded:: 4.0
    """
    sid, dot, given = value.rpartition(".")
    if not dot:
        return None
    try:
        text, signature = sid.encode(), given.encode()
    except UnicodeEncodeError:  # a cookie may hold any bytes, which arrive as lone surrogates
        return None
    for key in keys:
        if hmac.compare_digest(_signature(text, key), signature):
            return sid
    return None
