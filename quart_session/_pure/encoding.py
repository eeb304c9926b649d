"""Writing: a value, turned into a tree of plain JSON values, turned into bytes."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any
from uuid import UUID

from markupsafe import Markup

from quart_session._pure.refusals import (
    CHANGED,
    MAP_KEY,
    MAX_DEPTH,
    SET_ELEMENT,
    TOO_DEEP,
    TOO_MANY_DIGITS,
    Refused,
    segment,
    unhashable,
)
from quart_session._pure.registry import (
    ESCAPED,
    FROZENSET,
    LIST,
    MAPPING,
    OBJECT,
    PLAIN,
    SET,
    TAGGED,
    TUPLE,
    Registry,
)
from quart_session._pure.tags import BYTEARRAY, DATETIME, MOMENT
from quart_session._pure.text import nests_too_deep, orjson, plain_levels, render, to_ascii
from quart_session.errors import CodecError

_STR_ONLY = {str}
_JUST_COPIED: frozenset[type] = frozenset({str, bool, NoneType})
# Beyond these orjson refuses an integer, and spells a float otherwise than Python does.
_LEAST, _MOST = -(2**63), 2**64 - 1
_SMALL, _LARGE = 1e-4, 1e16


class Tagger:
    """Turns one value into a tree of plain JSON values. *depth* counts the open brackets.

    *hashed* is set inside sets and dict keys, where nothing may be written that reads back as
    something unhashable: such a document could not be loaded again.
    """

    __slots__ = ("copied", "escaped", "full", "handlers", "inner", "odd", "ran", "registry")

    def __init__(self, registry: Registry, inner: bool = False) -> None:
        self.registry = registry
        self.full = registry.full
        self.escaped = registry.escaped
        #: Whether a registered tag asked for this tree. The outermost checks what it made of it.
        self.inner = inner
        #: Whether the tree holds something that orjson writes differently.
        self.odd = False
        #: Whether code of the application ran, which may change what is being written.
        self.ran = False
        self.handlers, self.copied = _straight(registry.full, registry.slow)

    def build(self, value: Any) -> Any:
        handler = self.handlers.get(type(value))
        if handler is None:
            handler, value = self._resolve(value, False)
        return handler(self, value, 0, False)

    def _resolve(self, value: Any, hashed: bool) -> tuple[_Handler, Any]:
        """Who writes a value of a type without a handler, and what that is to write.

        It gives back the handler instead of calling it, so that a level of nesting costs one
        frame: at the depth limit Python's own stack must still have room.
        """
        self.ran = True
        found = self.registry.resolve(value, hashed, self.inner)
        if found is None:
            return _HANDLERS[self.full][type(value)], value
        shape, filling = found
        return _SHAPES[shape], filling

    @staticmethod
    def _open(depth: int, levels: int) -> int:
        if depth + levels > MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return depth + levels

    def _int(self, value: int, depth: int = 0, hashed: bool = False) -> int:
        if not _LEAST <= value <= _MOST:
            self.odd = True
            try:
                int.__repr__(value)
            except ValueError:
                raise Refused(TOO_MANY_DIGITS) from None
        return value

    def _float(self, value: float, depth: int = 0, hashed: bool = False) -> float:
        if not _SMALL <= abs(value) < _LARGE and value != 0:
            self.odd = True
        return value

    def _plain(self, value: Any, depth: int, hashed: bool) -> Any:
        kind = type(value)
        if kind is int:
            return self._int(value)
        if kind is float:
            return self._float(value)
        if kind is dict:
            self._open(depth, plain_levels(value))
        return value

    def _tagged(self, value: Any, depth: int, hashed: bool) -> Any:
        self.odd = True
        if not self.inner and nests_too_deep(to_ascii(value), MAX_DEPTH - depth):
            raise Refused(TOO_DEEP)
        return value

    def _dict(self, value: dict[Any, Any], depth: int, hashed: bool) -> Any:
        if hashed:
            raise Refused(unhashable(value))
        if value and {*map(type, value)} != _STR_ONLY:
            shape, filling = self.registry.resolve_pairs(value)
            return _SHAPES[shape](self, filling, depth, False)
        if len(value) == 1:
            ((key, item),) = value.items()
            if key in self.escaped:
                return self._escaped((key, f"{key}__", item), depth, False)
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        depth += 1
        tree = {}
        key = None
        copied, handlers = self.copied, self.handlers
        try:
            for key, item in value.items():
                kind = type(item)
                if kind in copied:
                    tree[key] = item
                    continue
                handler = handlers.get(kind)
                if handler is None:
                    handler, item = self._resolve(item, False)
                tree[key] = handler(self, item, depth, False)
        except Refused as refused:
            refused.path.append(segment(key))
            raise
        except RecursionError:
            raise
        except RuntimeError:
            raise Refused(CHANGED) from None
        if self.ran and tree and {*map(type, tree)} != _STR_ONLY:
            raise Refused(CHANGED)
        return tree

    def _escaped(self, filling: Sequence[Any], depth: int, hashed: bool) -> Any:
        key, written, item = filling
        depth = self._open(depth, 2)
        try:
            handler = self.handlers.get(type(item))
            if handler is None:
                handler, item = self._resolve(item, False)
            return {" di": {written: handler(self, item, depth, False)}}
        except Refused as refused:
            refused.path.append(segment(key))
            raise

    def _pairs(self, flat: list[Any], depth: int, hashed: bool) -> Any:
        """An object from a flat list of keys and values. The same key twice is written twice."""
        depth = self._open(depth, 1)
        tree: dict[Any, Any] = {}
        for i in range(0, len(flat), 2):
            key, item = flat[i], flat[i + 1]
            try:
                handler = self.handlers.get(type(item))
                if handler is None:
                    handler, item = self._resolve(item, False)
                item = handler(self, item, depth, False)
            except Refused as refused:
                refused.path.append(segment(key))
                raise
            if key in tree:
                self.odd = True
                key = _Again(key)
            tree[key] = item
        return tree

    def _list(
        self, value: Sequence[Any], depth: int, hashed: bool, as_tuple: bool = False
    ) -> list[Any]:
        if hashed and not as_tuple:
            raise Refused(unhashable(value))
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        depth += 1
        tree = []
        copied, handlers = self.copied, self.handlers
        size = len(value)
        try:
            for item in value:
                kind = type(item)
                if kind in copied:
                    tree.append(item)
                    continue
                handler = handlers.get(kind)
                if handler is None:
                    handler, item = self._resolve(item, hashed)
                tree.append(handler(self, item, depth, hashed))
                if len(value) != size:
                    break
        except Refused as refused:
            refused.path.append(f"[{len(tree)}]")
            raise
        if len(value) != size:
            raise Refused(CHANGED)
        return tree

    def _tuple(self, value: Sequence[Any], depth: int, hashed: bool) -> Any:
        return {" t": self._list(value, self._open(depth, 1), hashed, True)}

    def _set(self, value: Iterable[Any], depth: int, hashed: bool) -> Any:
        if hashed:
            raise Refused(unhashable(value))
        return {" q:s": self._elements(value, self._open(depth, 2))}

    def _frozenset(self, value: Iterable[Any], depth: int, hashed: bool) -> Any:
        return {" q:f": self._elements(value, self._open(depth, 2))}

    def _elements(self, value: Iterable[Any], depth: int) -> list[Any]:
        tree = []
        try:
            for item in [*value]:
                handler = self.handlers.get(type(item))
                if handler is None:
                    handler, item = self._resolve(item, True)
                tree.append(handler(self, item, depth, True))
        except Refused as refused:
            refused.path.append(SET_ELEMENT)
            raise
        if len(tree) > 1:
            tree.sort(key=lambda element: render(element, True))
        return tree

    def _mapping(self, flat: list[Any], depth: int, hashed: bool) -> Any:
        depth = self._open(depth, 3)
        tree: list[Any] = []
        half: list[Any] = []
        try:
            for i, item in enumerate(flat):
                is_key = i % 2 == 0
                handler = self.handlers.get(type(item))
                if handler is None:
                    handler, item = self._resolve(item, is_key)
                half.append(handler(self, item, depth, is_key))
                if not is_key:
                    tree.append(half)
                    half = []
        except Refused as refused:
            refused.path.append(segment(flat[i - 1]) if half else MAP_KEY)
            raise
        return {" q:m": tree}

    def _bytes(self, value: bytes, depth: int, hashed: bool) -> Any:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return {" b": b2a_base64(value, newline=False).decode("ascii")}

    def _bytearray(self, value: bytearray, depth: int, hashed: bool) -> Any:
        if hashed:
            raise Refused(unhashable(value))
        self._open(depth, 1)
        return BYTEARRAY.tag(value)

    def _markup(self, value: Markup, depth: int, hashed: bool) -> Any:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return {" m": str.__str__(value)}

    def _uuid(self, value: UUID, depth: int, hashed: bool) -> Any:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return {" u": value.hex}

    def _datetime(self, value: datetime, depth: int, hashed: bool) -> Any:
        if DATETIME.holds(value):
            if depth >= MAX_DEPTH:
                raise Refused(TOO_DEEP)
            return {" d": DATETIME.to_json(value)}
        return self._plain(MOMENT.tag(value), depth, hashed)


class _Again(str):
    """A key that is in its dict already: equal to itself only."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_Handler = Callable[[Tagger, Any, int, bool], Any]

_FLASK_HANDLERS: dict[type, _Handler] = {
    dict: Tagger._dict,
    str: Tagger._plain,
    bool: Tagger._plain,
    NoneType: Tagger._plain,
    list: Tagger._list,
    tuple: Tagger._tuple,
    int: Tagger._int,
    float: Tagger._float,
    bytes: Tagger._bytes,
    Markup: Tagger._markup,
    UUID: Tagger._uuid,
}
_FULL_HANDLERS: dict[type, _Handler] = {
    **_FLASK_HANDLERS,
    datetime: Tagger._datetime,
    bytearray: Tagger._bytearray,
    set: Tagger._set,
    frozenset: Tagger._frozenset,
}
_HANDLERS = (_FLASK_HANDLERS, _FULL_HANDLERS)


@lru_cache(maxsize=32)
def _straight(full: bool, slow: frozenset[type]) -> tuple[dict[type, _Handler], frozenset[type]]:
    """How values of exact types are written, and which are left as they are; without *slow*."""
    handlers = {kind: write for kind, write in _HANDLERS[full].items() if kind not in slow}
    return handlers, _JUST_COPIED - slow


_SHAPES: dict[int, _Handler] = {
    PLAIN: Tagger._plain,
    LIST: Tagger._list,
    TUPLE: Tagger._tuple,
    SET: Tagger._set,
    FROZENSET: Tagger._frozenset,
    OBJECT: Tagger._pairs,
    ESCAPED: Tagger._escaped,
    MAPPING: Tagger._mapping,
    TAGGED: Tagger._tagged,
}


def dumps(registry: Registry, value: Any) -> bytes:
    """Encode *value*.

    :raises CodecError: the value cannot be stored; the message names its path.
    """
    tagger = Tagger(registry)
    error = None
    try:
        tree = tagger.build(value)
        if orjson is not None and tagger.full and not tagger.odd:
            try:
                return orjson.dumps(tree)
            except TypeError:  # a lone surrogate, or deeper than orjson goes
                pass
        return render(tree, tagger.full)
    except Refused as refused:
        error = refused.as_error()
    except RecursionError:
        error = CodecError(f"session: {TOO_DEEP}")
    raise error


def fragment(shape: int, filling: Any, room: int, full: bool) -> bytes:
    """The JSON of a filling that is no container of values. *room* is how deep it may nest."""
    text = render(filling, full)
    if shape == TAGGED:
        too_deep = nests_too_deep(text, room)
    else:
        too_deep = type(filling) is dict and plain_levels(filling) > room
    if too_deep:
        raise Refused(TOO_DEEP)
    return text
