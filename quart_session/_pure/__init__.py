"""The pure-Python arm: session ids and the tagged-JSON codec, as a readable reference.

The compiled arm takes the straight road for values of exactly Python's own types and calls back
into this package for everything else, so whatever is odd is decided in one place.
``docs/format.md`` describes the format itself.
"""

from __future__ import annotations

from typing import Any

from quart_session._pure.decoding import NOT_A_DOCUMENT, loads, restore
from quart_session._pure.decoding import Malformed as _Malformed
from quart_session._pure.encoding import dumps, encode
from quart_session._pure.ids import derived_key, is_sid, new_sid, sign_sid, unsign_sid
from quart_session._pure.refusals import (
    CHANGED,
    MAP_KEY,
    MAX_DEPTH,
    SET_ELEMENT,
    TOO_DEEP,
    TOO_MANY_DIGITS,
    Refused,
    segment,
    type_name,
    unhashable,
)
from quart_session._pure.registry import (
    ESCAPED,
    FROZENSET,
    LIST,
    MAPPING,
    PLAIN,
    SET,
    TAGGED,
    TUPLE,
    Registry,
)

__all__ = [
    "CHANGED",
    "ESCAPED",
    "FROZENSET",
    "LIST",
    "MAPPING",
    "MAP_KEY",
    "MAX_DEPTH",
    "NOT_A_DOCUMENT",
    "PLAIN",
    "SET",
    "SET_ELEMENT",
    "TAGGED",
    "TOO_DEEP",
    "TOO_MANY_DIGITS",
    "TUPLE",
    "Codec",
    "Refused",
    "_Malformed",
    "derived_key",
    "encode",
    "is_sid",
    "new_sid",
    "restore",
    "segment",
    "sign_sid",
    "type_name",
    "unhashable",
    "unsign_sid",
]


class Codec:
    """Encodes and decodes with the tags of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _refresh(self) -> None:
        """Called after a tag was registered. This arm asks the registry each time anyway."""

    def dumps(self, value: Any, /) -> bytes:
        """Encode *value*.

        :raises CodecError: the value cannot be stored; the message names its path.
        """
        return dumps(self._registry, value)

    def loads(self, data: bytes | bytearray | memoryview | str, /) -> Any:
        """Decode *data*.

        :raises CodecError: *data* is no session document. The message shows nothing of it.
        """
        return loads(self._registry, data)
