"""What is refused, and how an error names the place."""

from __future__ import annotations

from types import NoneType
from typing import cast

from quart_session.errors import CodecError

#: How many ``[`` and ``{`` may be open at once, in both directions. Flask's writer gives up at 667.
MAX_DEPTH = 700

TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels, or it contains itself"
CHANGED = "a dict or list changed while it was written"
TOO_MANY_DIGITS = "integer with more digits than Python converts"

#: How much of a long path and of a long key an error shows.
_PATH_SHOWN = 8
_KEY_SHOWN = 64


class Refused(CodecError):
    """What a value was refused for. The path grows, innermost first, while the stack unwinds."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause
        self.path: list[str] = []

    def __str__(self) -> str:
        path = self.path[::-1]
        if len(path) > _PATH_SHOWN:
            path[_PATH_SHOWN:] = ["…"]
        return f"session{''.join(path)}: {self.reason}"

    def as_error(self) -> CodecError:
        error = CodecError(str(self))
        error.__cause__ = self.cause
        return error


def type_name(value: object) -> str:
    """The name of the type of *value*, without running any of that type's own code."""
    return cast(str, type.__dict__["__name__"].__get__(type(value)))


def object_of(value: object) -> str:
    return f"object of type {type_name(value)}"


def unhashable(value: object) -> str:
    return f"{object_of(value)} in a set or a key, where it would read back as unhashable"


def segment(key: object) -> str:
    """One step of a path. A key of a foreign type is shown by its type: its repr is its own."""
    if isinstance(key, str):
        text = str.__str__(key)
        return f"[{text!r}]" if len(text) <= _KEY_SHOWN else f"[{text[:_KEY_SHOWN]!r}…]"
    if type(key) in (int, bool, NoneType, float):
        return f"[{key!r}]"
    return f"[<{type_name(key)}>]"


SET_ELEMENT = "<element>"
MAP_KEY = "<key>"
