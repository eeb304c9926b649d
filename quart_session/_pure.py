"""The pure-Python arm: session ids and the tagged-JSON codec, as a readable reference.

The compiled arm takes the straight road for values of exactly Python's own types and calls back
into this module for everything else, so whatever is odd is decided in one place. ``docs/format.md``
describes the format itself.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import re
import secrets
from base64 import b64decode, urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from markupsafe import Markup
from werkzeug.http import http_date, parse_date

from .errors import CodecError

try:
    import orjson
except ImportError:  # it only saves time
    orjson = None  # type: ignore[assignment]

#: How many ``[`` and ``{`` may be open at once, in both directions. Flask's writer gives up at 667.
MAX_DEPTH = 700


# ---------------------------------------------------------------------------------------------
# Session ids
# ---------------------------------------------------------------------------------------------

_SALT = b"quart-session"
_SID = re.compile("[A-Za-z0-9_-]{43}")


def new_sid() -> str:
    """A fresh session id: 32 bytes of the operating system's randomness as base64url.

    .. versionadded:: 4.0
    """
    return secrets.token_urlsafe(32)


def is_sid(value: object, /) -> bool:
    """Whether *value* is a string with the length and the alphabet of a session id.

    .. versionadded:: 4.0
    """
    return isinstance(value, str) and _SID.fullmatch(value) is not None


@lru_cache(maxsize=16)
def derived_key(key: str | bytes) -> bytes:
    """The key that itsdangerous derives; an application has a few, and needs one every time."""
    return hmac.digest(key.encode() if isinstance(key, str) else key, _SALT, "sha1")


def _signature(text: bytes, key: str | bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(derived_key(key), text, "sha1")).rstrip(b"=")


def sign_sid(sid: str, key: str | bytes) -> str:
    """*sid*, a dot and its signature, as ``itsdangerous.Signer`` with the salt of 3.0.0 writes it.

    .. versionadded:: 4.0
    """
    return f"{sid}.{_signature(sid.encode(), key).decode('ascii')}"


def unsign_sid(value: str, keys: Sequence[str | bytes]) -> str | None:
    """The id in *value* when one of *keys* signed it, else ``None``. Keys are tried in order.

    Signatures are compared in constant time and in one spelling only.

    .. versionadded:: 4.0
    """
    sid, dot, given = value.rpartition(".")
    if not dot:
        return None
    try:
        text, signature = sid.encode(), given.encode()
    except UnicodeEncodeError:  # a cookie may hold any bytes, which arrive as lone surrogates
        return None
    for key in keys:
        if hmac.compare_digest(_signature(text, key), signature):
            return sid
    return None


# ---------------------------------------------------------------------------------------------
# What is refused, and where
# ---------------------------------------------------------------------------------------------

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


# ---------------------------------------------------------------------------------------------
# Tags
# ---------------------------------------------------------------------------------------------


class JSONTag(Protocol):
    """What the codec asks of a tag: the interface of ``flask.json.tag.JSONTag``."""

    key: str

    def check(self, value: Any) -> bool: ...

    def to_json(self, value: Any) -> Any: ...

    def to_python(self, value: Any) -> Any: ...

    def tag(self, value: Any) -> Any: ...


class BuiltinTag:
    """A tag that the codec itself knows.

    To add one: a subclass with a *key*, the *types* it stands for, *check*, *to_json* (which gives
    a string, or a list of plain values) and *to_python*; a place in ``EXTENDED``; a golden vector.
    """

    key = ""
    types: tuple[type, ...] = ()

    def check(self, value: Any) -> bool:
        return isinstance(value, self.types)

    def to_json(self, value: Any) -> Any:
        raise NotImplementedError

    def to_python(self, value: Any) -> Any:
        raise NotImplementedError

    def tag(self, value: Any) -> Any:
        return {self.key: self.to_json(value)}


class TagDict(BuiltinTag):
    """A dict of one key that would read as a tag. The key is written with two underscores."""

    key = " di"
    types = (dict,)

    def __init__(self, escaped: dict[str, Any]) -> None:
        self.escaped = escaped

    def check(self, value: Any) -> bool:
        return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in self.escaped

    def to_python(self, value: Any) -> Any:
        key = next(iter(value))
        return {key[:-2]: value[key]}


class PassDict(BuiltinTag):
    types = (dict,)


class TagTuple(BuiltinTag):
    key = " t"
    types = (tuple,)

    def to_python(self, value: Any) -> Any:
        return tuple(value)


class PassList(BuiltinTag):
    types = (list,)


class TagBytes(BuiltinTag):
    key = " b"
    types = (bytes,)

    def to_json(self, value: Any) -> Any:
        return b2a_base64(value, newline=False).decode("ascii")

    def to_python(self, value: Any) -> Any:
        return b64decode(value)


class TagMarkup(BuiltinTag):
    """Markup, and anything else with a method ``__html__``. Reads as Markup."""

    key = " m"
    types = (Markup,)

    def check(self, value: Any) -> bool:
        return callable(getattr(value, "__html__", None))

    def to_json(self, value: Any) -> Any:
        return str.__str__(str(value.__html__()))

    def to_python(self, value: Any) -> Any:
        return Markup(value)


class TagUUID(BuiltinTag):
    key = " u"
    types = (UUID,)

    def to_json(self, value: Any) -> Any:
        return value.hex

    def to_python(self, value: Any) -> Any:
        return UUID(value)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ([0-9]{4}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_MONTHS = "   JanFebMarAprMayJunJulAugSepOctNovDec"


class TagDateTime(BuiltinTag):
    """Flask's datetime: whole seconds in UTC."""

    key = " d"
    types = (datetime,)

    def holds(self, value: datetime) -> bool:
        """Whether reading gives the same datetime again. A year below 100 changes its century."""
        zone = value.tzinfo
        if zone is UTC:
            return not value.microsecond and value.year >= 100 and not value.fold
        return (
            type(zone) is timezone
            and zone == UTC
            and zone.tzname(None) == "UTC"
            and value.microsecond == 0
            and value.fold == 0
            and value.year >= 100
        )

    def to_json(self, value: Any) -> Any:
        month = 3 * value.month
        return (
            f"{_DAYS[date.weekday(value)]}, {value.day:02d} {_MONTHS[month : month + 3]} "
            f"{value.year:04d} {value.hour:02d}:{value.minute:02d}:{value.second:02d} GMT"
        )

    def to_python(self, value: Any) -> Any:
        # As it is always written; for other spellings werkzeug's reader is asked, at ten times
        # the cost. A year below 100 is for that one to move to another century.
        found = _HTTP_DATE.fullmatch(value) if type(value) is str else None
        if found is not None and value[12:14] != "00":
            day, month, year, hour, minute, second = found.groups()
            try:
                return datetime(
                    int(year),
                    _MONTHS.index(month) // 3,
                    int(day),
                    int(hour),
                    int(minute),
                    int(second),
                    tzinfo=UTC,
                )
            except ValueError:
                pass
        return parse_date(value)


# The tags from here on are this project's own. A body that their writer would not have written
# is refused, so that implementations in other languages need not guess what Python tolerates.


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError("malformed")


_Moment = TypeVar("_Moment", datetime, time)


def _spell_moment(value: _Moment, plain: _Moment) -> str | list[Any]:
    """The body of a datetime or time; *plain* has the same fields and no zone."""
    zone = value.tzinfo
    name = None
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        name = zone.key
    elif zone is not None and (offset := value.utcoffset()) is not None:
        plain = plain.replace(tzinfo=timezone(offset))
        if type(zone) is timezone and zone.tzname(None) != timezone(offset).tzname(None):
            name = zone.tzname(None)
    text = plain.isoformat()
    if value.fold:
        return [text, name, 1]
    return text if name is None else [text, name]


def _read_moment(kind: type[_Moment], body: Any) -> _Moment:
    name, fold = None, 0
    if type(body) is list:
        _expect(len(body) in (2, 3))
        _expect(len(body) == 2 or (type(body[2]) is int and body[2] == 1))
        body, name, fold = body[0], body[1], len(body) - 2
        _expect(type(name) is str or (name is None and fold == 1))
    _expect(type(body) is str)
    value = kind.fromisoformat(body)
    _expect(value.isoformat() == body)
    if name is not None:
        offset = value.utcoffset()
        value = value.replace(tzinfo=ZoneInfo(name) if offset is None else timezone(offset, name))
    return value.replace(fold=1) if fold else value


class TagMoment(BuiltinTag):
    """A datetime with microseconds, without a zone, with another zone than UTC, or ancient."""

    key = " q:dt"
    types = (datetime,)

    def to_json(self, value: Any) -> Any:
        day = (value.year, value.month, value.day)
        return _spell_moment(
            value, datetime(*day, value.hour, value.minute, value.second, value.microsecond)
        )

    def to_python(self, value: Any) -> Any:
        return _read_moment(datetime, value)


class TagDate(BuiltinTag):
    key = " q:d"
    types = (date,)

    def to_json(self, value: Any) -> Any:
        return date.isoformat(value)

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is str)
        day = date.fromisoformat(value)
        _expect(day.isoformat() == value)
        return day


class TagTime(BuiltinTag):
    key = " q:t"
    types = (time,)

    def to_json(self, value: Any) -> Any:
        return _spell_moment(value, time(value.hour, value.minute, value.second, value.microsecond))

    def to_python(self, value: Any) -> Any:
        return _read_moment(time, value)


class TagTimeDelta(BuiltinTag):
    key = " q:td"
    types = (timedelta,)

    def to_json(self, value: Any) -> Any:
        return [value.days, value.seconds, value.microseconds]

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is list and [type(part) for part in value] == [int, int, int])
        delta = timedelta(*value)
        _expect(self.to_json(delta) == value)
        return delta


class TagDecimal(BuiltinTag):
    key = " q:n"
    types = (Decimal,)

    def to_json(self, value: Any) -> Any:
        # The current decimal context may ask for a small "e".
        return Decimal.__str__(value).replace("e", "E")

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is str)
        number = Decimal(value)
        _expect(self.to_json(number) == value)
        return number


class TagByteArray(BuiltinTag):
    key = " q:b"
    types = (bytearray,)

    def to_json(self, value: Any) -> Any:
        return b2a_base64(value, newline=False).decode("ascii")

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is str)
        data = bytearray(a2b_base64(value))
        _expect(self.to_json(data) == value)
        return data


class TagSet(BuiltinTag):
    key = " q:s"
    types = (set,)

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is list)
        return set(value)


class TagFrozenSet(BuiltinTag):
    key = " q:f"
    types = (frozenset,)

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is list)
        return frozenset(value)


class TagMapping(BuiltinTag):
    """A dict with a key that is no string, as a list of pairs."""

    key = " q:m"
    types = (dict,)

    def to_python(self, value: Any) -> Any:
        _expect(type(value) is list)
        for pair in value:
            _expect(type(pair) is list and len(pair) == 2)
        return {key: item for key, item in value}


_BYTES, _MARKUP, _UUID = TagBytes(), TagMarkup(), TagUUID()
_DATETIME, _MOMENT = TagDateTime(), TagMoment()
_BYTEARRAY, _SET, _FROZENSET = TagByteArray(), TagSet(), TagFrozenSet()
_MAPPING = TagMapping()

#: The tags beyond Flask's, in the order in which a value is offered to them.
EXTENDED: tuple[BuiltinTag, ...] = (
    _MOMENT,
    TagDate(),
    TagTime(),
    TagTimeDelta(),
    TagDecimal(),
    _BYTEARRAY,
    _SET,
    _FROZENSET,
    _MAPPING,
)


# ---------------------------------------------------------------------------------------------
# The registry: which tags there are, in which order values are offered to them
# ---------------------------------------------------------------------------------------------

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
            _BYTES,
            _MARKUP,
            _UUID,
            _DATETIME,
        ]
        flask = {tag.key: tag for tag in self.order if tag.key}
        extended = {tag.key: tag for tag in EXTENDED}
        self.tags.update(flask)
        self.tags.update(extended)
        self.escaped.update(self.tags if full else flask)
        #: Exact types whose values must be offered to registered tags before all else.
        self.asked: frozenset[type] = frozenset()
        #: How the pure arm writes values of exact types, and which it leaves as they are.
        self.handlers = _HANDLERS[full]
        self.copied = _JUST_COPIED
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
        if index is None:
            self.order.append(tag)
        else:
            self.order.insert(index, tag)
        self.custom = True
        self._eager = self._eager or index is not None or _claims_plain(tag)
        self.asked = frozenset(self._asked())
        late = {*self.asked, set, frozenset, bytearray}
        self.handlers = {k: v for k, v in _HANDLERS[self.full].items() if k not in late}
        self.copied = _JUST_COPIED - self.asked

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

        None for a value of an exact type that no registered tag claims.

        :raises Refused: it cannot be stored.
        """
        try:
            if type(value) in self.asked:
                tag = self.claim(value)
                if tag is None or isinstance(tag, BuiltinTag):
                    return None
                shape, filling = TAGGED, tag.tag(value)
            else:
                shape, filling = self.describe(value)
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
        tag = self.claim(value)
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
        if tag is _DATETIME:
            if not self.full:
                simple = value.tzinfo is None or value.tzinfo is UTC
                return PLAIN, tag.tag(value) if simple else {" d": http_date(value)}
            if not _DATETIME.holds(value):
                tag = _MOMENT
        return PLAIN, tag.tag(value)

    def describe_pairs(self, pairs: list[tuple[Any, Any]]) -> tuple[int, Any]:
        """The same for the items of a dict."""
        if not self.full:
            if len(pairs) == 1 and pairs[0][0] in self.escaped:
                return ESCAPED, [pairs[0][0], f"{pairs[0][0]}__", pairs[0][1]]
            return OBJECT, [part for key, item in pairs for part in (_flask_key(key), item)]
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
                    if tag is _SET:
                        return SET, [*value]
                    if tag is _FROZENSET:
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


def _flask_key(key: Any) -> str:
    """A dict's key as the standard library writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, float)):
        return _to_text(float.__float__(key) if isinstance(key, float) else key)
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


# ---------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------

_to_text = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_to_ascii = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
_flask_text = json.JSONEncoder(separators=(",", ":"), default=_flask_default).encode


def render(tree: Any, full: bool) -> bytes:
    """A tree of plain values as JSON. Full documents are UTF-8, Flask's are ASCII."""
    if not full:
        return _to_ascii(tree).encode("ascii")
    # A lone surrogate has no UTF-8; what this error handler puts in its place is JSON's escape.
    return _to_text(tree).encode("utf-8", "backslashreplace")


def plain_levels(value: dict[str, Any]) -> int:
    """How many brackets a tag around plain values opens."""
    ((_, body),) = value.items()
    return 2 if type(body) is list else 1


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


def through_json(made: Any) -> Any:
    """What a registered tag made of a value, as any reader of JSON sees it."""
    return json.loads(_flask_text(made))


_BRACKETS = r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]'
_BRACKETS_STR = re.compile(_BRACKETS, re.DOTALL)
_BRACKETS_BYTES = re.compile(_BRACKETS.encode(), re.DOTALL)


def nests_too_deep(document: str | bytes, allowed: int = MAX_DEPTH) -> bool:
    """Whether more than *allowed* brackets are open at once somewhere in *document*."""
    if isinstance(document, str):
        if document.count("[") + document.count("{") <= allowed:
            return False
        tokens: Iterable[Any] = _BRACKETS_STR.finditer(document)
        marks = {"[": 1, "{": 1, "]": -1, "}": -1}
    else:
        if document.count(b"[") + document.count(b"{") <= allowed:
            return False
        tokens = _BRACKETS_BYTES.finditer(document)
        marks = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}  # type: ignore[dict-item]
    depth = 0
    for token in tokens:
        depth += marks.get(token[0], 0)
        if depth > allowed:
            return True
    return False


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------

_STR_ONLY = {str}
_JUST_COPIED = frozenset({str, bool, NoneType})
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
        self.handlers = registry.handlers
        self.copied = registry.copied

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
        if not self.inner and nests_too_deep(_to_ascii(value), MAX_DEPTH - depth):
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
        return _BYTEARRAY.tag(value)

    def _markup(self, value: Markup, depth: int, hashed: bool) -> Any:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return {" m": str.__str__(value)}

    def _uuid(self, value: UUID, depth: int, hashed: bool) -> Any:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        return {" u": value.hex}

    def _datetime(self, value: datetime, depth: int, hashed: bool) -> Any:
        if _DATETIME.holds(value):
            if depth >= MAX_DEPTH:
                raise Refused(TOO_DEEP)
            return {" d": _DATETIME.to_json(value)}
        return self._plain(_MOMENT.tag(value), depth, hashed)


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


# ---------------------------------------------------------------------------------------------
# The codec
# ---------------------------------------------------------------------------------------------

NOT_A_DOCUMENT = "not a session document"


class _Inexact(Exception):
    """A number was read that orjson may have rounded."""


class Codec:
    """Encodes and decodes with the tags of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _refresh(self) -> None:
        """Called after a tag was registered. This arm asks the registry each time anyway."""

    def dumps(self, value: Any, /) -> bytes:
        """Encode *value*.

        :raises CodecError: the value cannot be stored; the message names its path.
        """
        tagger = Tagger(self._registry)
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

    def loads(self, data: bytes | bytearray | memoryview | str, /) -> Any:
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
                return self._load(data)
        except _Malformed as malformed:
            reason, cause = malformed.reason, malformed.cause
        except UnicodeDecodeError:
            reason = "invalid UTF-8"
        except (ValueError, RecursionError):
            reason = "invalid JSON"
        # Raised out here, so that it drags along no exception that holds the document.
        raise CodecError(f"{NOT_A_DOCUMENT}: {reason}") from cause

    def _load(self, data: bytes | str) -> Any:
        if orjson is not None:
            try:
                return self._untag(orjson.loads(data), True)
            except (_Inexact, orjson.JSONDecodeError):
                pass  # the standard library has the last word
        text = str(data, "utf-8") if isinstance(data, bytes) else data
        return self._untag(json.loads(text), False)

    def _untag(self, value: Any, doubt: bool) -> Any:
        """Restore tagged values from the inside out, in place. *doubt* large numbers."""
        kind = type(value)
        if kind is dict:
            for key, item in value.items():
                if type(item) in _WALKED:
                    value[key] = self._untag(item, doubt)
            if len(value) == 1:
                ((key, item),) = value.items()
                tag = self._registry.tags.get(key)
                if tag is not None:
                    return restore(tag, item)
        elif kind is list:
            for i, item in enumerate(value):
                if type(item) in _WALKED:
                    value[i] = self._untag(item, doubt)
        elif kind is float and doubt and not -_ROUNDED < value < _ROUNDED:
            raise _Inexact
        return value


# orjson reads integers of 64 bits and more as floats.
_ROUNDED = 9e18

_WALKED = frozenset({dict, list, float})


class _Malformed(Exception):
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
    raise _Malformed(f"malformed tag {tag.key!r}", cause)
