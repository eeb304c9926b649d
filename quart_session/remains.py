"""What lies for a while under the key of a session that ended or went elsewhere.

It tells requests that still carry the old id not to begin a session of their own: the browser has,
or is about to get, a newer word than they have.
"""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, TypeGuard

from quart_session._hotpath import is_sid
from quart_session.stores.base import Record

MARKER = b'{"_qs":{"superseded":true}}'
"""The session was destroyed or got a new id at a login."""

VACANT = b'{"_qs":{"vacant":true}}'
"""A request took the last key out of the session. A request that ran meanwhile finds this and puts
its own changes into an empty session; to others there is none."""

MARKER_LIFE = 10.0
"""Seconds that both of them stay."""

GRACE = 30.0
"""Seconds in which a renewed session is still found under its old id."""

_RENEWED = b'{"_qs":{"renewed_as":'


def is_alive(record: Record | None) -> TypeGuard[Record]:
    """Whether there is a session: not nothing, and not what is left of one."""
    return record is not None and not is_left_over(record.data)


def is_left_over(data: bytes) -> bool:
    """Whether these are the remains of a session and not a session."""
    return data in (MARKER, VACANT) or data.startswith(_RENEWED)


def life_of(remains: bytes) -> float:
    """How many seconds *remains* stay where they are put now."""
    if remains in (MARKER, VACANT):
        return MARKER_LIFE
    until: float = _renewal(remains)["until"]
    return max(until - time.time(), 0.001)


def renewed_as(new_sid: str, old_sid: str) -> bytes:
    """What to leave under the old id of a session that goes on as *new_sid*.

    Only who knows the old id can read the new one in it.
    """
    masked = _mask(urlsafe_b64decode(new_sid + "="), old_sid)
    document = {"renewed_as": urlsafe_b64encode(masked).decode(), "until": time.time() + GRACE}
    return json.dumps({"_qs": document}, separators=(",", ":")).encode()


def renewed_id(data: bytes, old_sid: str) -> str | None:
    """The id with which the session *old_sid* goes on, if *data* tells of a renewal.

    ``None`` as well after the time of grace, even where a backend kept *data* for longer.
    """
    if not data.startswith(_RENEWED):
        return None
    renewal = _renewal(data)
    if renewal["until"] < time.time():
        return None
    masked = urlsafe_b64decode(renewal["renewed_as"])
    new_sid = urlsafe_b64encode(_mask(masked, old_sid)).decode().rstrip("=")
    return new_sid if is_sid(new_sid) else None


def _renewal(data: bytes) -> dict[str, Any]:
    renewal: dict[str, Any] = json.loads(data)["_qs"]
    return renewal


def _mask(data: bytes, old_sid: str) -> bytes:
    """Add what nobody can tell who does not know *old_sid*; done twice, it is *data* again.

    An id is random and renewed once, so this is a one-time pad.
    """
    pad = hmac.digest(old_sid.encode(), b"quart-session renewal", "sha256")
    return bytes(a ^ b for a, b in zip(data, pad, strict=True))
