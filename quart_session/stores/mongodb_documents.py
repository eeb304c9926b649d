"""A record as a document of MongoDB, for those who look into the collection.

====================  ==============================================================================
``_id``               the key; for a session id of version 3 its UUID, as version 3 had it
``data``              the session as MongoDB's own types, to query it: ``{"data.user": "ada"}``.
                      Written, never read: what is changed there changes no session
``bytes``             the stored document exactly, which is what is read
``version``           its digest
``expires``           when it ends; MongoDB removes it a minute after that at the latest
====================  ==============================================================================

Version 3 wrote ``_id`` and ``data`` only. Such a document is read from its ``data``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any
from uuid import UUID

from bson import Decimal128, ObjectId

from quart_session.errors import CodecError
from quart_session.serializer import TaggedJSONSerializer
from quart_session.stores.base import Record, Version

VERSION_3 = b"version 3"
"""The version of what version 3 wrote, which has none of its own."""

LONGEST = 200 * 365 * 86400
"""Seconds. Nobody lives to see the difference, and Python's dates end in the year 9999."""

DEEPEST = 50
"""So deep is what one can query; MongoDB takes 100 levels."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_PREFIX = "session:"
_serializer = TaggedJSONSerializer()


def id_of(key: str) -> str | UUID:
    """The ``_id`` of *key*."""
    prefix, sid = key[: len(_UUID_PREFIX)], key[len(_UUID_PREFIX) :]
    if prefix == _UUID_PREFIX and len(sid) == 36:
        try:
            uuid = UUID(sid)
        except ValueError:
            return key
        if str(uuid) == sid:  # so that no other key has the same
            return uuid
    return key


def moment(seconds: float) -> datetime:
    """A time of the wall clock as MongoDB keeps it: in milliseconds, here rounded up."""
    return _EPOCH + timedelta(milliseconds=math.ceil(seconds * 1000))


def read(document: dict[str, Any], now: float) -> Record | None:
    """The record in *document*, unless it has expired.

    :param now: seconds, by the wall clock.
    """
    left = None
    if expires := document.get("expires"):
        if expires.tzinfo is None:  # which the client's options decide
            expires = expires.replace(tzinfo=UTC)
        left = (expires - _EPOCH).total_seconds() - now
        if left <= 0:
            return None
    if "bytes" in document:
        return Record(bytes(document["bytes"]), document["version"].encode("latin-1"), left)
    try:
        return Record(_bytes(document.get("data", {})), VERSION_3, left)
    except CodecError:  # an application of version 3 could store types that only MongoDB has
        return None


def readable(data: bytes) -> Any:
    """What to show of *data*: a session as a document, else text or bytes as they are."""
    try:
        document = _serializer.loads(data)
    except CodecError:
        document = None
    if isinstance(document, dict):
        return _readable(document, DEEPEST)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _bytes(value: Any) -> bytes:
    """The document that version 4 would have written for what version 3 wrote."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, dict):
        return _serializer.dumps(_native(value))
    return str(value).encode()


def _native(value: Any) -> Any:
    """*value* in types that a session can hold."""
    if isinstance(value, dict):
        return {key: _native(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_native(item) for item in value]
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, bytes):  # bson.Binary, too
        return bytes(value)
    return value


def _readable(value: Any, depth: int) -> Any:
    """*value* in MongoDB's types where it has them, else as text."""
    if isinstance(value, dict | list | tuple | set | frozenset) and not depth:
        return "…"
    if isinstance(value, dict):
        return {_name(key): _readable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_readable(item, depth - 1) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # of lone surrogates
    if value is None or isinstance(value, bool | float | UUID | bytes):
        return bytes(value) if isinstance(value, bytearray) else value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value
        except OverflowError:
            return str(value)
    if isinstance(value, Decimal):
        try:
            return Decimal128(value)
        except DecimalException:
            return str(value)
    return str(value)


def _name(key: Any) -> str:
    """*key* as a name that every version of MongoDB takes: those characters have look-alikes."""
    text: str = str(key).encode(errors="replace").decode()
    return text.replace(".", "\uff0e").replace("$", "\uff04").replace("\0", "\u2400")


def to_text(version: Version) -> str:
    """*version* as it stands in a document."""
    return version.decode("latin-1")
