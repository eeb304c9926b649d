"""The fast way to write: values of exactly Python's own types, in which nothing is odd.

Containers are rebuilt with tags in them, and orjson writes the result. What orjson spells otherwise
than the format, and whatever may be refused, is left to the longer way in ``encoding``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from markupsafe import Markup

from quart_session._pure import tags
from quart_session._pure.text import orjson, render

#: How deep orjson nests what it writes.
DEEPEST = 254

_PLAIN = {str, int, bool, NoneType}
# Zones of other types may run any code.
_ZONES = {NoneType, timezone, ZoneInfo}


class _Odd(Exception):
    """Not for this way."""


class Shortcut:
    """Writes what it can; *slow* are types whose values it leaves to others."""

    def __init__(self, slow: frozenset[type]) -> None:
        writers: dict[type, Callable[[Any], Any] | None] = {
            **dict.fromkeys(_PLAIN),
            dict: self._dict,
            list: self._list,
            tuple: self._tuple,
            float: _float,
            bytes: tags.BYTES.tag,
            UUID: tags.UUID_TAG.tag,
            Markup: _markup,
            datetime: _datetime,
            date: tags.DATE.tag,
            time: _time,
            timedelta: tags.TIMEDELTA.tag,
            Decimal: tags.DECIMAL.tag,
            bytearray: tags.BYTEARRAY.tag,
            set: _set,
            frozenset: _set,
        }
        self._writers = {kind: write for kind, write in writers.items() if kind not in slow}

    def dumps(self, value: Any) -> bytes | None:
        """The document of *value*, or None if anything in it is odd."""
        try:
            write = self._writers[type(value)]
            return orjson.dumps(value if write is None else write(value))
        except MemoryError:
            raise
        except Exception:
            return None

    def _dict(self, value: dict[Any, Any]) -> Any:
        if len(value) == 1:
            for key in value:
                if key[:1] == " ":
                    raise _Odd
        writers = self._writers
        return {
            key: item if (write := writers[type(item)]) is None else write(item)
            for key, item in value.items()
        }

    def _list(self, value: list[Any] | tuple[Any, ...]) -> Any:
        writers = self._writers
        return [item if (write := writers[type(item)]) is None else write(item) for item in value]

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        return {" t": self._list(value)}


shortcut = lru_cache(maxsize=32)(Shortcut)


def _float(value: float) -> Any:
    if 1e-4 <= abs(value) < 1e16 or value == 0:
        return value
    raise _Odd


def _markup(value: Markup) -> Any:
    return {" m": value}


def _datetime(value: datetime) -> Any:
    if tags.DATETIME.holds(value):
        return tags.DATETIME.tag(value)
    if type(value.tzinfo) not in _ZONES:
        raise _Odd
    return tags.MOMENT.tag(value)


def _time(value: time) -> Any:
    if type(value.tzinfo) not in _ZONES:
        raise _Odd
    return tags.TIME.tag(value)


def _set(value: set[Any] | frozenset[Any]) -> Any:
    if not _PLAIN.issuperset(map(type, value)):
        raise _Odd
    return {" q:s" if type(value) is set else " q:f": sorted(value, key=render)}
