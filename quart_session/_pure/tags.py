"""The tags that the codec itself knows: Flask's, and those for what Flask's would lose."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from markupsafe import Markup
from werkzeug.http import parse_date


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
    to_python = staticmethod(tuple)  # type: ignore[assignment]


class PassList(BuiltinTag):
    types = (list,)


class TagBytes(BuiltinTag):
    key = " b"
    types = (bytes,)

    def tag(self, value: Any) -> Any:
        return {" b": b2a_base64(value, newline=False).decode("ascii")}

    def to_python(self, value: Any) -> Any:
        return a2b_base64(value)


class TagMarkup(BuiltinTag):
    """Markup, and anything else with a method ``__html__``. Reads as Markup."""

    key = " m"
    types = (Markup,)

    def check(self, value: Any) -> bool:
        return callable(getattr(value, "__html__", None))

    def tag(self, value: Any) -> Any:
        return {" m": str.__str__(str(value.__html__()))}

    def to_python(self, value: Any) -> Any:
        return str.__new__(Markup, value) if type(value) is str else Markup(value)


_new, _set, _SAFE = object.__new__, object.__setattr__, SafeUUID.unknown


class TagUUID(BuiltinTag):
    key = " u"
    types = (UUID,)

    def tag(self, value: Any) -> Any:
        return {" u": value.hex}

    def to_python(self, value: Any) -> Any:
        # As it is always written. UUID() would come to the same at three times the cost.
        if type(value) is not str or len(value) != 32 or "-" in value:
            return UUID(value)
        found = _new(UUID)
        _set(found, "int", int(value, 16))
        _set(found, "is_safe", _SAFE)
        return found


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *(None, "Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_TWO_DIGITS = tuple(f"{number:02d}" for number in range(60))
_MONTH_NUMBERS = dict(zip(_MONTHS, _TWO_DIGITS, strict=False))
_HTTP_DATE = re.compile(
    "[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ((?!00)[0-9]{4}) "
    "((?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}) GMT"
)


class TagDateTime(BuiltinTag):
    """Flask's datetime: whole seconds in UTC."""

    key = " d"
    types = (datetime,)

    def holds(self, value: datetime) -> bool:
        """Whether reading gives the same datetime again. A year below 100 changes its century."""
        zone = value.tzinfo
        return (
            (zone is UTC or (type(zone) is timezone and zone == UTC and str(zone) == "UTC"))
            and not value.microsecond
            and not value.fold
            and value.year >= 100
        )

    def tag(self, value: Any) -> Any:
        two = _TWO_DIGITS
        return {
            " d": f"{_DAYS[date.weekday(value)]}, {two[value.day]} {_MONTHS[value.month]} "
            f"{value.year:04d} {two[value.hour]}:{two[value.minute]}:{two[value.second]} GMT"
        }

    def to_python(self, value: Any) -> Any:
        # As it is always written; for other spellings werkzeug's reader is asked, at ten times
        # the cost. A year below 100 is for that one to move to another century.
        found = _HTTP_DATE.fullmatch(value) if type(value) is str else None
        if found is not None:
            day, month, year, clock = found.groups()
            try:
                return datetime.fromisoformat(f"{year}-{_MONTH_NUMBERS[month]}-{day}T{clock}Z")
            except (KeyError, ValueError):  # no such month or day
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


BYTES, MARKUP, UUID_TAG = TagBytes(), TagMarkup(), TagUUID()
DATETIME, MOMENT = TagDateTime(), TagMoment()
DATE, TIME, TIMEDELTA, DECIMAL = TagDate(), TagTime(), TagTimeDelta(), TagDecimal()
BYTEARRAY, SET_TAG, FROZENSET_TAG = TagByteArray(), TagSet(), TagFrozenSet()
MAPPING_TAG = TagMapping()

#: The tags beyond Flask's, in the order in which a value is offered to them.
EXTENDED: tuple[BuiltinTag, ...] = (
    MOMENT,
    DATE,
    TIME,
    TIMEDELTA,
    DECIMAL,
    BYTEARRAY,
    SET_TAG,
    FROZENSET_TAG,
    MAPPING_TAG,
)
