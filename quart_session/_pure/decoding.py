"""Reading: a document, read as JSON, tagged values restored from the inside out."""

from __future__ import annotations

import json
from math import inf
from typing import Any

from quart_session._pure.refusals import MAX_DEPTH, type_name
from quart_session._pure.registry import Registry
from quart_session._pure.tags import BuiltinTag
from quart_session._pure.text import nests_too_deep, orjson
from quart_session.errors import CodecError

NOT_A_DOCUMENT = "not a session document"
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

# orjson reads integers of 64 bits and more as floats. From here on a float is in doubt.
_ROUNDED = 9e18


class Malformed(Exception):
    """JSON from which no value can be restored."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        self.reason = reason
        self.cause = cause


class _Inexact(Exception):
    """A number was read that orjson may have rounded."""


def loads(registry: Registry, data: bytes | bytearray | memoryview | str) -> Any:
    """Decode *data*.

    :raises CodecError: *data* is no session document. The message shows nothing of it.
    """
    if isinstance(data, (bytearray, memoryview)):
        data = bytes(memoryview(data))  # not what a subclass says that its bytes are
    elif not isinstance(data, (bytes, str)):
        raise TypeError(f"a session document is bytes or str, not {type_name(data)}")
    cause = None
    try:
        return _load(registry.tags, data)
    except Malformed as malformed:
        reason, cause = malformed.reason, malformed.cause
    except UnicodeDecodeError:
        reason = "invalid UTF-8"
    except (ValueError, RecursionError):
        reason = "invalid JSON"
    # Raised out here, so that it drags along no exception that holds the document.
    raise CodecError(f"{NOT_A_DOCUMENT}: {reason}") from cause


def _load(tags: dict[str, Any], data: bytes | str) -> Any:
    if orjson is not None:
        try:
            return _untag(orjson.loads(data), tags, _ROUNDED)
        except (_Inexact, orjson.JSONDecodeError):
            pass  # the standard library has the last word
    text = data if isinstance(data, str) else data.decode()
    if nests_too_deep(text):
        raise Malformed(_TOO_DEEP)
    return _untag(json.loads(text), tags, inf)


def _untag(value: Any, tags: dict[str, Any], largest: float) -> Any:
    """Restore what is tagged in *value*. Floats beyond *largest* are in doubt."""
    # A list is restored in place, an object may be a tag, so a list of one object serves for all.
    document = [value]
    _untag_list(document, MAX_DEPTH + 1, tags, largest)
    return document[0]


def _untag_dict(value: dict[str, Any], room: int, tags: dict[str, Any], largest: float) -> Any:
    if not room:
        raise Malformed(_TOO_DEEP)
    for key, item in value.items():
        kind = type(item)
        if kind is dict:
            value[key] = item = _untag_dict(item, room - 1, tags, largest)
        elif kind is list:
            _untag_list(item, room - 1, tags, largest)
        elif kind is float and (item > largest or item < -largest):
            raise _Inexact
    if len(value) == 1 and key in tags:
        try:
            return tags[key].to_python(item)
        except Exception:  # tried again only to find out what went wrong
            return restore(tags[key], item)
    return value


def _untag_list(value: list[Any], room: int, tags: dict[str, Any], largest: float) -> None:
    if not room:
        raise Malformed(_TOO_DEEP)
    for i, item in enumerate(value):
        kind = type(item)
        if kind is dict:
            value[i] = _untag_dict(item, room - 1, tags, largest)
        elif kind is list:
            _untag_list(item, room - 1, tags, largest)
        elif kind is float and (item > largest or item < -largest):
            raise _Inexact


def restore(tag: Any, body: Any) -> Any:
    """What *tag* makes of *body*. Only the error of a registered tag is kept as the cause."""
    cause = None
    try:
        return tag.to_python(body)
    except MemoryError:
        raise
    except Exception as error:
        if not isinstance(tag, BuiltinTag):
            cause = error
    raise Malformed(f"malformed tag {tag.key!r}", cause)
