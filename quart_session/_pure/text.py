"""JSON text: spelled as Python or as Flask spells it, and how deep it nests."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from werkzeug.http import http_date

from quart_session._pure.refusals import MAX_DEPTH, Refused, object_of, type_name

try:
    import orjson as orjson
except ImportError:  # it only saves time
    orjson = None  # type: ignore[assignment]

to_text = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
to_ascii = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def flask_key(key: Any) -> str:
    """A dict's key as the standard library writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, float)):
        return to_text(float.__float__(key) if isinstance(key, float) else key)
    if isinstance(key, int):
        return int.__repr__(key)
    raise Refused(f"key of type {type_name(key)}")


def _flask_default(value: Any) -> Any:
    """What Flask does with a value that neither a tag nor JSON knows."""
    if isinstance(value, date):
        return http_date(value)
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)  # type: ignore[arg-type]
    if hasattr(value, "__html__"):
        return str(value.__html__())
    raise Refused(object_of(value))


_flask_text = json.JSONEncoder(separators=(",", ":"), default=_flask_default).encode


def render(tree: Any, full: bool = True) -> bytes:
    """A tree of plain values as JSON. Full documents are UTF-8, Flask's are ASCII."""
    if not full:
        return to_ascii(tree).encode("ascii")
    # A lone surrogate has no UTF-8; what this error handler puts in its place is JSON's escape.
    return to_text(tree).encode("utf-8", "backslashreplace")


def plain_levels(value: dict[str, Any]) -> int:
    """How many brackets a tag around plain values opens."""
    ((_, body),) = value.items()
    return 2 if type(body) is list else 1


def through_json(made: Any) -> Any:
    """What a registered tag made of a value, as any reader of JSON sees it."""
    return json.loads(_flask_text(made))


_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def nests_too_deep(document: str, allowed: int = MAX_DEPTH) -> bool:
    """Whether more than *allowed* brackets are open at once somewhere in *document*."""
    if len(document) <= 2 * allowed or document.count("[") + document.count("{") <= allowed:
        return False
    depth = 0
    for token in _BRACKETS.finditer(document):
        depth += _STEPS.get(token[0], 0)
        if depth > allowed:
            return True
    return False
