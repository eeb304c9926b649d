"""Which tags there are, in which order values are offered to them, and what a value becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, date, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

from werkzeug.http import http_date

from quart_session._pure.refusals import (
    TOO_MANY_DIGITS,
    Refused,
    object_of,
    type_name,
    unhashable,
)
from quart_session._pure.tags import (
    BYTES,
    DATETIME,
    EXTENDED,
    FROZENSET_TAG,
    MARKUP,
    MOMENT,
    SET_TAG,
    UUID_TAG,
    BuiltinTag,
    JSONTag,
    PassDict,
    PassList,
    TagDict,
    TagTuple,
)
from quart_session._pure.text import flask_key, through_json

# What `describe` finds a value to be. The second item of its answer is ...
PLAIN = 0  # ... a string, a number, or a tag around strings and numbers
LIST = 1  # ... a list of items, the same for the next three
TUPLE = 2
SET = 3
FROZENSET = 4
OBJECT = 5  # ... a flat list: key, value, key, value; the keys are exact strings
ESCAPED = 6  # ... [key, escaped key, value]: a dict that would read as a tag
MAPPING = 7  # ... a flat list as for OBJECT, with keys of any type
TAGGED = 8  # ... what a registered tag made of the value

#: What reads back as something unhashable, and so cannot be in a set or a key.
UNHASHABLE = frozenset({LIST, SET, OBJECT, ESCAPED, MAPPING})

_PLAIN_TYPES: tuple[type, ...] = (str, int, float, bool, NoneType)
#: Exact types that need no description.
STRAIGHT = frozenset({dict, list, tuple, *_PLAIN_TYPES})
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
        #: Exact types that only :meth:`resolve` can tell about.
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

    def resolve(self, value: Any, hashed: bool, inner: bool = False) -> tuple[int, Any] | None:
        """What *value* is written as: a shape and its filling.

        None for a container or a scalar of JSON, of the exact type, that no registered tag claims.

        :raises Refused: it cannot be stored.
        """
        try:
            tag = self.claim(value)
            if type(value) in STRAIGHT and (tag is None or isinstance(tag, BuiltinTag)):
                return None
            shape, filling = self._describe(value, tag)
            if shape == TAGGED and not inner:
                # What an inner tag made is a part of what the outermost made.
                filling = through_json(filling)
        except (Refused, MemoryError):
            raise
        except Exception as error:
            raise Refused(f"{object_of(value)} raised {type_name(error)}", error) from None
        if hashed and (shape in UNHASHABLE or isinstance(value, bytearray)):
            raise Refused(unhashable(value))
        return shape, filling

    def resolve_pairs(self, value: dict[Any, Any]) -> tuple[int, Any]:
        """The same for a dict some of whose keys are not exactly strings."""
        try:
            return self.describe_pairs([*value.items()])
        except (Refused, MemoryError):
            raise
        except Exception as error:
            raise Refused(f"{object_of(value)} raised {type_name(error)}", error) from None

    def describe(self, value: Any) -> tuple[int, Any]:
        """Decide what *value* is written as, in Flask's order: a shape and what fills it.

        May run code of the value's type and of registered tags, and raise whatever that raises.
        """
        return self._describe(value, self.claim(value))

    def _describe(self, value: Any, tag: Any) -> tuple[int, Any]:
        if tag is None:
            return self._describe_untagged(value)
        if not isinstance(tag, BuiltinTag):
            return TAGGED, tag.tag(value)
        if isinstance(value, dict):
            return self.describe_pairs([*value.items()])
        if isinstance(value, tuple):
            return TUPLE, [*value]
        if isinstance(value, list):
            return LIST, [*value]
        if tag is DATETIME:
            if not self.full:
                simple = value.tzinfo is None or value.tzinfo is UTC
                return PLAIN, tag.tag(value) if simple else {" d": http_date(value)}
            if not DATETIME.holds(value):
                tag = MOMENT
        return PLAIN, tag.tag(value)

    def describe_pairs(self, pairs: list[tuple[Any, Any]]) -> tuple[int, Any]:
        """The same for the items of a dict."""
        if not self.full:
            if len(pairs) == 1 and pairs[0][0] in self.escaped:
                return ESCAPED, [pairs[0][0], f"{pairs[0][0]}__", pairs[0][1]]
            return OBJECT, [part for key, item in pairs for part in (flask_key(key), item)]
        if not all(isinstance(key, str) for key, _ in pairs):
            return MAPPING, [part for pair in pairs for part in pair]
        flat = [part for key, item in pairs for part in (str.__str__(key), item)]
        if len(set(flat[::2])) < len(pairs):
            raise Refused("two keys with the same text")
        if len(pairs) == 1 and flat[0] in self.escaped:
            return ESCAPED, [flat[0], f"{flat[0]}__", flat[1]]
        return OBJECT, flat

    def _describe_untagged(self, value: Any) -> tuple[int, Any]:
        if self.full:
            for tag in EXTENDED:
                if tag.check(value):
                    if tag is SET_TAG:
                        return SET, [*value]
                    if tag is FROZENSET_TAG:
                        return FROZENSET, [*value]
                    return PLAIN, tag.tag(value)
        # The unbound methods give the exact type and run no code of the subclass.
        if isinstance(value, str):
            return PLAIN, str.__str__(value)
        if isinstance(value, int):
            number = int.__index__(value)
            try:
                int.__repr__(number)
            except ValueError:
                raise Refused(TOO_MANY_DIGITS) from None
            return PLAIN, value if isinstance(value, bool) else number
        if isinstance(value, float):
            return PLAIN, float.__float__(value)
        if value is None:
            return PLAIN, None
        if not self.full:
            return TAGGED, value  # left to Flask's own fallback
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.describe_pairs([*dataclasses.asdict(value).items()])
        raise Refused(object_of(value))


def _claims_plain(tag: JSONTag) -> bool:
    try:
        return any(tag.check(sample) for sample in _SAMPLES)
    except Exception:
        return True  # let it raise when a value is written, as Flask does
