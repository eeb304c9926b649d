"""The pure-Python arm: session ids and the tagged-JSON codec, as a readable reference.

The compiled arm takes the straight road for values of exactly Python's own types and calls back
into this package for everything else, so whatever is odd is decided in one place.
``docs/format.md`` describes the format itself.
"""

from __future__ import annotations

from typing import Any

from quart_session._pure.decoding import Malformed, loads, restore
from quart_session._pure.encoding import dumps, encode
from quart_session._pure.ids import derived_key, is_sid, new_sid, sign_sid, unsign_sid
from quart_session._pure.refusals import CHANGED, Refused, segment
from quart_session._pure.registry import Registry

__all__ = [
    "CHANGED",
    "Codec",
    "Malformed",
    "Refused",
    "derived_key",
    "dumps",
    "encode",
    "is_sid",
    "loads",
    "new_sid",
    "restore",
    "segment",
    "sign_sid",
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
