"""Writing: a value, turned into a tree of plain JSON values, turned into bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any

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
    STRAIGHT,
    TAGGED,
    TUPLE,
    Registry,
)
from quart_session._pure.shortcut import DEEPEST, shortcut
from quart_session._pure.text import nests_too_deep, orjson, plain_levels, render, to_ascii

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
    """Turns one value into a tree of plain JSON values. *depth* counts the open brackets.

    *hashed* is set inside sets and dict keys, where nothing may be written that reads back as
    something unhashable: such a document could not be loaded again.
    """

    __slots__ = ("inner", "registry", "straight")

    def __init__(self, registry: Registry, inner: bool = False) -> None:
        self.registry = registry
        #: Whether a registered tag asked for this tree. The outermost checks what it made of it.
        self.inner = inner
        #: Exact types of which no registered tag is asked.
        self.straight = STRAIGHT - registry.asked

    def build(self, value: Any, depth: int = 0) -> Any:
        handler, value = self._find(value)
        return handler(self, value, depth, False)

    def _find(self, value: Any, hashed: bool = False) -> tuple[_Handler, Any]:
        """Who writes *value*, and what that is to write.

        It gives back the handler instead of calling it, so that a level of nesting costs one
        frame: at the depth limit Python's own stack must still have room.
        """
        kind = type(value)
        if kind not in self.straight:
            found = self.registry.resolve(value, hashed, self.inner)
            if found is not None:
                shape, filling = found
                return _SHAPES[shape], filling
        return _STRAIGHT[kind], value

    @staticmethod
    def _open(depth: int, levels: int) -> int:
        if depth + levels > MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return depth + levels

    def _plain(self, value: Any, depth: int, hashed: bool) -> Any:
        if type(value) is int:
            try:
                int.__repr__(value)
            except ValueError:
                raise Refused(TOO_MANY_DIGITS) from None
        elif type(value) is dict:
            self._open(depth, plain_levels(value))
        return value

    def _tagged(self, value: Any, depth: int, hashed: bool) -> Any:
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
            if key in self.registry.escaped:
                return self._escaped((key, f"{key}__", item), depth, False)
        depth = self._open(depth, 1)
        tree = {}
        key = None
        try:
            for key, item in value.items():
                handler, item = self._find(item)
                tree[key] = handler(self, item, depth, False)
        except Refused as refused:
            refused.path.append(segment(key))
            raise
        except RecursionError:
            raise
        except RuntimeError:
            raise Refused(CHANGED) from None
        if tree and {*map(type, tree)} != _STR_ONLY:
            raise Refused(CHANGED)
        return tree

    def _escaped(self, filling: Sequence[Any], depth: int, hashed: bool) -> Any:
        key, written, item = filling
        depth = self._open(depth, 2)
        try:
            handler, item = self._find(item)
            return {" di": {written: handler(self, item, depth, False)}}
        except Refused as refused:
            refused.path.append(segment(key))
            raise

    def _pairs(self, flat: list[Any], depth: int, hashed: bool) -> Any:
        """An object from a flat list of keys and values. The same key twice is written twice."""
        depth = self._open(depth, 1)
        tree: dict[Any, Any] = {}
        for i in range(0, len(flat), 2):
            key = flat[i]
            try:
                handler, item = self._find(flat[i + 1])
                item = handler(self, item, depth, False)
            except Refused as refused:
                refused.path.append(segment(key))
                raise
            tree[_Again(key) if key in tree else key] = item
        return tree

    def _list(
        self, value: Sequence[Any], depth: int, hashed: bool, as_tuple: bool = False
    ) -> list[Any]:
        if hashed and not as_tuple:
            raise Refused(unhashable(value))
        depth = self._open(depth, 1)
        tree = []
        size = len(value)
        try:
            for item in value:
                handler, item = self._find(item, hashed)
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
            for item in value:
                handler, item = self._find(item, True)
                tree.append(handler(self, item, depth, True))
        except Refused as refused:
            refused.path.append(SET_ELEMENT)
            raise
        if len(tree) > 1:
            tree.sort(key=render)
        return tree

    def _mapping(self, flat: list[Any], depth: int, hashed: bool) -> Any:
        depth = self._open(depth, 3)
        tree: list[Any] = []
        half: list[Any] = []
        try:
            for i, item in enumerate(flat):
                is_key = i % 2 == 0
                handler, item = self._find(item, is_key)
                half.append(handler(self, item, depth, is_key))
                if not is_key:
                    tree.append(half)
                    half = []
        except Refused as refused:
            refused.path.append(segment(flat[i - 1]) if half else MAP_KEY)
            raise
        return {" q:m": tree}


class _Again(str):
    """A key that is in its dict already: equal to itself only."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_Handler = Callable[[Tagger, Any, int, bool], Any]

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
_STRAIGHT: dict[type, _Handler] = {
    dict: Tagger._dict,
    list: Tagger._list,
    tuple: Tagger._tuple,
    **dict.fromkeys((str, int, float, bool, NoneType), Tagger._plain),
}
