"""Writing: a value becomes a tree of plain JSON values, that becomes bytes.

This is the long way, for any value and with every reason to refuse one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from types import NoneType
from typing import Any
from uuid import UUID

from markupsafe import Markup
from werkzeug.http import http_date

from quart_session._pure.refusals import (
    CHANGED,
    MAP_KEY,
    MAX_DEPTH,
    SET_ELEMENT,
    TOO_DEEP,
    TOO_MANY_DIGITS,
    Refused,
    object_of,
    segment,
    type_name,
    unhashable,
)
from quart_session._pure.registry import Registry
from quart_session._pure.shortcut import DEEPEST, shortcut
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
)
from quart_session._pure.text import (
    flask_key,
    nests_too_deep,
    orjson,
    plain_levels,
    render,
    through_json,
    to_ascii,
)

_STR_ONLY = {str}


def dumps(registry: Registry, value: Any) -> bytes:
    """Encode *value*.

    :raises CodecError: the value cannot be stored; the message names its path.
    """
    try:
        return encode(registry, value)
    except Refused as refused:
        error = refused.as_error()
    raise error


def encode(registry: Registry, value: Any, depth: int = 0) -> bytes:
    """The document of *value*, or the part of one that stands where *depth* brackets are open.

    :raises Refused: the value cannot be stored.
    """
    if orjson is not None and registry.full and depth <= MAX_DEPTH - DEEPEST:
        document = shortcut(registry.slow).dumps(value)
        if document is not None:
            return document
    try:
        return render(Tagger(registry).build(value, depth), registry.full)
    except RecursionError:
        raise Refused(TOO_DEEP) from None


class Tagger:
    """Turns one value into a tree of plain JSON values.

    A method that writes gets what it is to write, how many brackets are open, and whether this is
    in a set or a dict's key. There nothing may be written that reads back as something unhashable:
    such a document could not be loaded again.
    """

    __slots__ = ("copied", "inner", "registry", "straight")

    def __init__(self, registry: Registry, inner: bool = False) -> None:
        self.registry = registry
        #: Whether a registered tag asked for this tree. The outermost checks what it made of it.
        self.inner = inner
        #: How values of exact types are written of which no registered tag is asked.
        self.straight = {k: w for k, w in _STRAIGHT.items() if k not in registry.asked}
        #: Those of them whose values are written as they are.
        self.copied = _COPIED - registry.asked

    def build(self, value: Any, depth: int = 0) -> Any:
        write, filling = self._find(value)
        return write(self, filling, depth, False)

    # What a value is written as

    def _find(self, value: Any, hashed: bool = False) -> tuple[_Write, Any]:
        """Who writes *value*, and what that is to write.

        It gives back the method instead of calling it, so that a level of nesting costs one frame:
        at the depth limit Python's own stack must still have room.
        """
        kind, filling = type(value), value
        write = self.straight.get(kind)
        if write is None or (kind is dict and not _STR_ONLY.issuperset(map(type, value))):
            try:
                write, filling = self._describe(value)
                if write is Tagger._tagged and not self.inner:
                    # What an inner tag made is a part of what the outermost made.
                    filling = through_json(filling)
            except (Refused, MemoryError):
                raise
            except Exception as error:
                raise Refused(f"{object_of(value)} raised {type_name(error)}", error) from None
        if hashed and (write in _UNHASHABLE or isinstance(value, bytearray)):
            raise Refused(unhashable(value))
        return write, filling

    def _describe(self, value: Any) -> tuple[_Write, Any]:
        """The same for a value of any type, in Flask's order.

        May run code of the value's type and of registered tags, and raise whatever that raises.
        """
        tag = self.registry.claim(value)
        if tag is None:
            return self._describe_untagged(value)
        if not isinstance(tag, BuiltinTag):
            return Tagger._tagged, tag.tag(value)
        if isinstance(value, dict):
            return self._describe_dict([*value.items()])
        if isinstance(value, tuple):
            return Tagger._tuple, [*value]
        if isinstance(value, list):
            return Tagger._list, [*value]
        if tag is DATETIME:
            if not self.registry.full:
                simple = value.tzinfo is None or value.tzinfo is UTC
                return Tagger._plain, tag.tag(value) if simple else {" d": http_date(value)}
            if not DATETIME.holds(value):
                tag = MOMENT
        return Tagger._plain, tag.tag(value)

    def _describe_dict(self, pairs: list[tuple[Any, Any]]) -> tuple[_Write, Any]:
        escaped = self.registry.escaped
        if not self.registry.full:
            if len(pairs) == 1 and pairs[0][0] in escaped:
                return Tagger._escaped, _escape(*pairs[0])
            return Tagger._pairs, [(flask_key(key), item) for key, item in pairs]
        if not all(isinstance(key, str) for key, _ in pairs):
            return Tagger._mapping, pairs
        pairs = [(str.__str__(key), item) for key, item in pairs]
        if len(dict(pairs)) < len(pairs):
            raise Refused("two keys with the same text")
        if len(pairs) == 1 and pairs[0][0] in escaped:
            return Tagger._escaped, _escape(*pairs[0])
        return Tagger._pairs, pairs

    def _describe_untagged(self, value: Any) -> tuple[_Write, Any]:
        if self.registry.full:
            for tag in EXTENDED:
                if tag.check(value):
                    if tag is SET_TAG:
                        return Tagger._set, [*value]
                    if tag is FROZENSET_TAG:
                        return Tagger._frozenset, [*value]
                    return Tagger._plain, tag.tag(value)
        # The unbound methods give the exact type and run no code of the subclass.
        if isinstance(value, str):
            return Tagger._plain, str.__str__(value)
        if isinstance(value, int):
            return Tagger._plain, value if isinstance(value, bool) else int.__index__(value)
        if isinstance(value, float):
            return Tagger._plain, float.__float__(value)
        if value is None:
            return Tagger._plain, None
        if not self.registry.full:
            return Tagger._tagged, value  # left to Flask's own fallback
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._describe_dict([*dataclasses.asdict(value).items()])
        raise Refused(object_of(value))

    # Writing it

    @staticmethod
    def _open(depth: int, levels: int) -> int:
        if depth + levels > MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return depth + levels

    def _plain(self, value: Any, depth: int, hashed: bool) -> Any:
        """A string, a number, or a tag around strings and numbers."""
        if type(value) is int:
            try:
                int.__repr__(value)
            except ValueError:
                raise Refused(TOO_MANY_DIGITS) from None
        elif type(value) is dict:
            self._open(depth, plain_levels(value))
        return value

    def _tagged(self, value: Any, depth: int, hashed: bool) -> Any:
        """What a registered tag made."""
        if not self.inner and nests_too_deep(to_ascii(value), MAX_DEPTH - depth):
            raise Refused(TOO_DEEP)
        return value

    def _dict(self, value: dict[str, Any], depth: int, hashed: bool) -> Any:
        if len(value) == 1:
            ((key, item),) = value.items()
            if key in self.registry.escaped:
                return self._escaped(_escape(key, item), depth, False)
        depth = self._open(depth, 1)
        tree: dict[str, Any] = {}
        key = ""
        try:
            for key, item in value.items():
                if type(item) in self.copied:
                    tree[key] = item
                    continue
                write, filling = self._find(item)
                tree[key] = write(self, filling, depth, False)
        except Refused as refused:
            refused.path.append(segment(key))
            raise
        except RecursionError:
            raise
        except RuntimeError:
            raise Refused(CHANGED) from None
        if not _STR_ONLY.issuperset(map(type, tree)):
            raise Refused(CHANGED)
        return tree

    def _escaped(self, escaped: tuple[Any, str, Any], depth: int, hashed: bool) -> Any:
        """A dict of one key that would read as a tag."""
        key, written, item = escaped
        depth = self._open(depth, 2)
        try:
            write, filling = self._find(item)
            return {" di": {written: write(self, filling, depth, False)}}
        except Refused as refused:
            refused.path.append(segment(key))
            raise

    def _pairs(self, pairs: list[tuple[str, Any]], depth: int, hashed: bool) -> Any:
        """An object from keys and values. The same key twice is written twice."""
        depth = self._open(depth, 1)
        tree: dict[Any, Any] = {}
        for key, item in pairs:
            try:
                write, filling = self._find(item)
                item = write(self, filling, depth, False)
            except Refused as refused:
                refused.path.append(segment(key))
                raise
            tree[_Again(key) if key in tree else key] = item
        return tree

    def _list(self, value: Sequence[Any], depth: int, hashed: bool) -> list[Any]:
        depth = self._open(depth, 1)
        tree = []
        size = len(value)
        try:
            for item in value:
                if type(item) in self.copied:
                    tree.append(item)
                    continue
                write, filling = self._find(item, hashed)
                tree.append(write(self, filling, depth, hashed))
                if len(value) != size:
                    break
        except Refused as refused:
            refused.path.append(f"[{len(tree)}]")
            raise
        if len(value) != size:
            raise Refused(CHANGED)
        return tree

    def _tuple(self, value: Sequence[Any], depth: int, hashed: bool) -> Any:
        return {" t": self._list(value, self._open(depth, 1), hashed)}

    def _set(self, value: Iterable[Any], depth: int, hashed: bool) -> Any:
        return {" q:s": self._elements(value, self._open(depth, 2))}

    def _frozenset(self, value: Iterable[Any], depth: int, hashed: bool) -> Any:
        return {" q:f": self._elements(value, self._open(depth, 2))}

    def _elements(self, value: Iterable[Any], depth: int) -> list[Any]:
        tree = []
        try:
            for item in value:
                write, filling = self._find(item, True)
                tree.append(write(self, filling, depth, True))
        except Refused as refused:
            refused.path.append(SET_ELEMENT)
            raise
        if len(tree) > 1:
            tree.sort(key=render)
        return tree

    def _mapping(self, pairs: list[tuple[Any, Any]], depth: int, hashed: bool) -> Any:
        """A dict with a key that is no string."""
        depth = self._open(depth, 3)
        tree = []
        for key, item in pairs:
            place = MAP_KEY
            try:
                write, filling = self._find(key, True)
                written = write(self, filling, depth, True)
                place = segment(key)
                write, filling = self._find(item)
                tree.append([written, write(self, filling, depth, False)])
            except Refused as refused:
                refused.path.append(place)
                raise
        return {" q:m": tree}


def _escape(key: Any, item: Any) -> tuple[Any, str, Any]:
    return key, f"{key}__", item


def _by(tag: BuiltinTag) -> _Write:
    def write(self: Tagger, value: Any, depth: int, hashed: bool) -> Any:
        return self._plain(tag.tag(value), depth, hashed)

    return write


class _Again(str):
    """A key that is in its dict already: equal to itself only."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_Write = Callable[[Tagger, Any, int, bool], Any]

_STRAIGHT: dict[type, _Write] = {
    dict: Tagger._dict,
    list: Tagger._list,
    tuple: Tagger._tuple,
    bytes: _by(BYTES),
    Markup: _by(MARKUP),
    UUID: _by(UUID_TAG),
    **dict.fromkeys((str, int, float, bool, NoneType), Tagger._plain),
}
_COPIED = frozenset({str, float, bool, NoneType})
#: What reads back as something unhashable.
_UNHASHABLE: set[_Write] = {
    Tagger._dict,
    Tagger._escaped,
    Tagger._pairs,
    Tagger._mapping,
    Tagger._list,
    Tagger._set,
}
