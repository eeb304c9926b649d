"""Random values and documents, and what it means that two results are the same."""

from __future__ import annotations

import base64
import enum
import random
import string
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Items(list):
    pass


class Color(enum.IntEnum):
    RED = 1


class Mood(enum.StrEnum):
    GOOD = "good"


class Page:
    def __html__(self) -> str:
        return "<p>page</p>"

    def __repr__(self) -> str:
        return "Page()"


class Foreign:
    """Something that no codec can store."""


Point = namedtuple("Point", "x y")

ZONES = (
    None,
    UTC,
    UTC,
    timezone(timedelta(hours=2)),
    timezone(timedelta(hours=-3, minutes=-30), "NST"),
    timezone(timedelta(seconds=1), "odd"),
    timezone(timedelta(0), "GMT"),
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("UTC"),
)
ALPHABETS = (
    string.ascii_letters,
    string.ascii_letters + ' _"\\/\n\t\x00\x1f\x7f',
    "aé\xff\u0100ñ",
    "漢字テスト、ЖЯ\u07ff\u0800\uffff",
    "😀🎉\U0010ffffa漢é",
    "\ud800a\udfff",
)
KEYS = (" t", " b", " m", " u", " d", " di", " q:dt", " q:s", " q:m", " t__", " di__", " x", "")


def text(rng: random.Random) -> str:
    length = rng.choice((0, 1, 3, 7, 8, 12, 15, 16, 17, 31, 33, 60))
    return "".join(rng.choices(rng.choice(ALPHABETS), k=length))


def datetime_of(rng: random.Random) -> datetime:
    return datetime(
        rng.choice((1, 68, 99, 100, 999, 1970, 2024, 2026, 9999)),
        rng.randint(1, 12),
        rng.randint(1, 28),
        rng.randint(0, 23),
        rng.randint(0, 59),
        rng.randint(0, 59),
        rng.choice((0, 0, 1, 999999, 120000)),
        rng.choice(ZONES),
        fold=rng.random() < 0.1,
    )


def real(rng: random.Random) -> float:
    kind = rng.randrange(5)
    if kind == 0:
        return round(rng.uniform(-1000, 1000), rng.randint(0, 8))
    if kind == 1:
        return rng.choice((0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e16, 5e-324))
    if kind == 2:
        return rng.random() * 10.0 ** rng.randint(-320, 308)
    if kind == 3:
        return float(rng.randint(-(10**17), 10**17))
    return rng.randint(1, 10**9) / 10 ** rng.randint(0, 12)


def integer(rng: random.Random) -> int:
    bits = rng.choice((1, 4, 8, 16, 30, 31, 53, 60, 62, 63, 64, 65, 128, 400))
    return rng.choice((-1, 1)) * (rng.getrandbits(bits) + rng.choice((0, 0, 2**bits - 1)))


PLAIN: tuple[Callable[[random.Random], Any], ...] = (
    text,
    text,
    text,
    integer,
    integer,
    real,
    lambda rng: rng.choice((None, True, False)),
    lambda rng: rng.randbytes(rng.randint(0, 40)),
    lambda rng: Markup(text(rng)),
    lambda rng: uuid.UUID(int=rng.getrandbits(128)),
    datetime_of,
    datetime_of,
)
RARE: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: date(rng.randint(1, 9999), rng.randint(1, 12), rng.randint(1, 28)),
    lambda rng: time(rng.randint(0, 23), 5, 6, rng.choice((0, 7)), rng.choice(ZONES)),
    lambda rng: timedelta(
        rng.randint(-99999, 99999), rng.randint(0, 86399), rng.randint(0, 999999)
    ),
    lambda rng: Decimal(rng.choice(("1.10", "-0", "1E+5", "NaN", "NaN12", "-Infinity", "1e-9"))),
    lambda rng: bytearray(rng.randbytes(rng.randint(0, 9))),
    lambda rng: Text(text(rng)),
    lambda rng: Number(integer(rng)),
    lambda rng: Real(real(rng)),
    lambda rng: rng.choice((Color.RED, Mood.GOOD)),
    lambda rng: Page(),
)
BEYOND_FLASK = (date, time, timedelta, Decimal, bytearray, set, frozenset)


def hashable(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8)
    if kind == 0 and depth > 0:
        return tuple(hashable(rng, depth - 1) for _ in range(rng.randint(0, 3)))
    if kind == 1 and depth > 0:
        return frozenset(hashable(rng, depth - 1) for _ in range(rng.randint(0, 3)))
    if kind == 2:
        return rng.choice(RARE[:4])(rng) if rng.random() < 0.5 else Point(1, text(rng))
    made = rng.choice(PLAIN)(rng)
    return made


def value(rng: random.Random, depth: int = 4, foreign: float = 0.0) -> Any:
    """Any value; now and then one that cannot be stored, with the probability *foreign*."""
    kind = rng.random() if depth > 0 else 0.0
    if kind < 0.5:
        if rng.random() < foreign:
            return rng.choice((Foreign, Page, lambda: 10**4400, lambda: 1j))()
        return rng.choice(RARE if rng.random() < 0.15 else PLAIN)(rng)
    size = rng.choice((0, 1, 1, 2, 3, 7, 12))
    if kind < 0.75:
        items = {
            (rng.choice(KEYS) if rng.random() < 0.15 else text(rng)): value(rng, depth - 1, foreign)
            for _ in range(size)
        }
        return items if rng.random() < 0.95 else OrderedDict(items)
    if kind < 0.85:
        listed = [value(rng, depth - 1, foreign) for _ in range(size)]
        return listed if rng.random() < 0.95 else Items(listed)
    if kind < 0.94:
        return tuple(value(rng, depth - 1, foreign) for _ in range(size))
    if kind < 0.97:
        return rng.choice((set, frozenset))(hashable(rng, 2) for _ in range(size))
    return {hashable(rng, 2): value(rng, depth - 1, foreign) for _ in range(size)}


MORE_KEYS = (" q:d", " q:t", " q:td", " q:n", " q:f", " q:b")
TOKENS = [
    *(b'[ ] { } , : " \\ \\u \\ud83d \\ude00 \\udc00 null true false NaN Infinity'.split()),
    *(b"- -0 0 1e5".split()),
    *(b"1.5 e E+ . 0.1e-7 123456789012345678 1234567890123456789012 1e400 \\n \\x /".split()),
    *(b'{"' + key.encode() + b'":' for key in (*KEYS, *MORE_KEYS)),
    b" ",
    b"\n",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xe6\xbc\xa2",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b'"}',
    b'"Wed, 01 May 2024 12:00:00 GMT"',
    b'"2024-05-01T12:00:00.000001+00:00"',
    b'["2024-05-01T12:00:00","Europe/Berlin",1]',
    b'"%s"' % uuid.UUID(int=7).hex.encode(),
    b'"%s"' % base64.b64encode(b"abcd"),
    b"[1,2,3]",
    b"9" * 4400,
    b"[" * 800,
]


def mutate(rng: random.Random, document: bytes) -> bytes:
    """*document* with a few small damages."""
    data = bytearray(document)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randint(0, len(data))
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 1, 2, 8))]
        elif kind == 2:
            data[at:at] = rng.choice(TOKENS if rng.random() < 0.02 else TOKENS[:-2])
        elif kind == 3:
            end = at + rng.randint(0, 20)
            data[at:at] = data[at:end]
        elif kind == 4:
            data[at : at + rng.randint(0, 6)] = rng.choice(TOKENS[:-2])
        else:
            other = rng.randint(0, len(data))
            data[at : at + 1] = data[other : other + 1]
    return bytes(data)


def shape(value: Any) -> Any:
    """A value that is equal for two others only if these are equal and of equal types in depth."""
    kind = type(value)
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    if kind in (datetime, time):
        return kind, value.isoformat(), value.fold, repr(value.tzinfo)
    return kind, repr(value)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (
        repr(one) == repr(other) or repr(shape(one)) == repr(shape(other))
    )


def outcome(function: Callable[[Any], Any], argument: Any) -> tuple[type | None, Any]:
    """The class of the exception and its message, or None and the result."""
    try:
        return None, function(argument)
    except Exception as error:
        return type(error), str(error)
