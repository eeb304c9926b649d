"""Reading: a document, read as JSON, tagged values restored from the inside out."""

from __future__ import annotations

import json
from typing import Any

from quart_session._pure.refusals import MAX_DEPTH, type_name
from quart_session._pure.registry import Registry
from quart_session._pure.tags import BuiltinTag
from quart_session._pure.text import nests_too_deep, orjson
from quart_session.errors import CodecError

NOT_A_DOCUMENT = "not a session document"


class _Inexact(Exception):
    """A number was read that orjson may have rounded."""


class Malformed(Exception):
    def __init__(self, reason: str, cause: BaseException | None) -> None:
        self.reason = reason
        self.cause = cause


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


def loads(registry: Registry, data: bytes | bytearray | memoryview | str) -> Any:
    """Decode *data*.

    :raises CodecError: *data* is no session document. The message shows nothing of it.
    """
    if isinstance(data, (bytearray, memoryview)):
        data = bytes(data)
    elif not isinstance(data, (bytes, str)):
        raise TypeError(f"a session document is bytes or str, not {type_name(data)}")
    cause = None
    try:
        if nests_too_deep(data):
            reason = f"nested deeper than {MAX_DEPTH} levels"
        else:
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
            return _untag(tags, orjson.loads(data), True)
        except (_Inexact, orjson.JSONDecodeError):
            pass  # the standard library has the last word
    text = str(data, "utf-8") if isinstance(data, bytes) else data
    return _untag(tags, json.loads(text), False)


def _untag(tags: dict[str, Any], value: Any, doubt: bool) -> Any:
    """Restore tagged values from the inside out, in place. *doubt* large numbers."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(item) in _WALKED:
                value[key] = _untag(tags, item, doubt)
        if len(value) == 1:
            ((key, item),) = value.items()
            tag = tags.get(key)
            if tag is not None:
                return restore(tag, item)
    elif kind is list:
        for i, item in enumerate(value):
            if type(item) in _WALKED:
                value[i] = _untag(tags, item, doubt)
    elif kind is float and doubt and not -_ROUNDED < value < _ROUNDED:
        raise _Inexact
    return value


# orjson reads integers of 64 bits and more as floats.
_ROUNDED = 9e18

_WALKED = frozenset({dict, list, float})
