"""Which tags there are, and in which order values are offered to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

from quart_session._pure.tags import (
    BYTES,
    DATETIME,
    EXTENDED,
    MARKUP,
    UUID_TAG,
    BuiltinTag,
    JSONTag,
    PassDict,
    PassList,
    TagDict,
    TagTuple,
)

_PLAIN_TYPES: tuple[type, ...] = (str, int, float, bool, NoneType)
# Exact types that have no tag of Flask's, so that registered tags may want their values.
_LATE = frozenset({date, time, timedelta, Decimal, bytearray, set, frozenset})
_SAMPLES: tuple[object, ...] = ("", "a", 0, 1, 1.5, True, False, None)


class Registry:
    """The tags of one serializer. Both arms ask it; only :meth:`register` changes it."""

    def __init__(self, full: bool) -> None:
        self.full = full
        #: Keys that turn a dict of one such key into an escaped one.
        self.escaped: dict[str, Any] = {}
        #: Tags by key, for reading.
        self.tags: dict[str, Any] = {}
        self.order: list[Any] = [
            TagDict(self.escaped),
            PassDict(),
            TagTuple(),
            PassList(),
            BYTES,
            MARKUP,
            UUID_TAG,
            DATETIME,
        ]
        flask = {tag.key: tag for tag in self.order if tag.key}
        extended = {tag.key: tag for tag in EXTENDED}
        self.tags.update(flask)
        self.tags.update(extended)
        self.escaped.update(self.tags if full else flask)
        #: Exact types whose values must be offered to registered tags before all else.
        self.asked: frozenset[type] = frozenset()
        #: Whether a tag of an application has a key that does not start with a space.
        self.bare_keys = False
        #: Exact types whose values the shortcut leaves to others: those, and what tags may want.
        self.slow: frozenset[type] = frozenset()
        #: Whether a key of this module's own tags means something else now.
        self.replaced = False
        #: Whether any tag was registered.
        self.custom = False
        self._eager = False

    def register(self, tag: JSONTag, force: bool, index: int | None) -> None:
        key = tag.key
        if key:
            if not force and key in self.tags:
                raise KeyError(f"Tag '{key}' is already registered.")
            self.replaced = self.replaced or isinstance(self.tags.get(key), BuiltinTag)
            self.tags[key] = self.escaped[key] = tag
            self.bare_keys = self.bare_keys or not key.startswith(" ")
        if index is None:
            self.order.append(tag)
        else:
            self.order.insert(index, tag)
        self.custom = True
        self._eager = self._eager or index is not None or _claims_plain(tag)
        self.asked = frozenset(self._asked())
        self.slow = self.asked | _LATE | ({dict} if self.bare_keys else set())

    def _asked(self) -> Iterable[type]:
        """Exact types that some registered tag precedes.

        Strings, numbers and None belong to no tag, so in Flask every tag is asked about every one
        of them. Here a tag is only if it was registered with an index or claims a plain sample.
        """
        foreign = False
        for tag in self.order:
            if not isinstance(tag, BuiltinTag):
                foreign = True
            elif foreign:
                yield from tag.types
        if self._eager:
            yield from _PLAIN_TYPES

    def claim(self, value: Any) -> Any:
        """The first tag in the order that wants *value*, or None."""
        for tag in self.order:
            if tag.check(value):
                return tag
        return None


def _claims_plain(tag: JSONTag) -> bool:
    try:
        return any(tag.check(sample) for sample in _SAMPLES)
    except Exception:
        return True  # let it raise when a value is written, as Flask does
