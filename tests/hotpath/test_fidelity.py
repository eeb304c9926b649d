"""What Flask's tags would lose comes back whole, and equal values give equal bytes."""

from __future__ import annotations

import ctypes
import random
import sys
from collections import Counter, OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

import fuzzing
import pytest
from flask.json.tag import TaggedJSONSerializer as FlaskSerializer
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from quart_session.errors import CodecError

BERLIN = ZoneInfo("Europe/Berlin")
UTC = UTC
KEPT = [
    datetime(2024, 5, 1, 12, 30, 15, 123456, UTC),
    datetime(2024, 5, 1, 12, 30, 15, 1, UTC),
    datetime(2024, 5, 1, 12, 30, 15),
    datetime(2024, 5, 1, 12, 30, 15, 7),
    datetime(2024, 5, 1, 12, 30, 15, fold=1),
    datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC, fold=1),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(99, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(100, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2024, 5, 1, tzinfo=timezone(-timedelta(seconds=1, microseconds=5))),
    datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2), "CEST")),
    datetime(2024, 5, 1, tzinfo=timezone(timedelta(0), "GMT")),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2024, 5, 1, tzinfo=ZoneInfo("UTC")),
    date(1, 1, 1),
    date(2024, 2, 29),
    time(0),
    time(23, 59, 59, 999999),
    time(1, 2, fold=1),
    time(1, 2, tzinfo=BERLIN),
    time(1, 2, tzinfo=timezone(timedelta(hours=1))),
    timedelta(0),
    timedelta(-1, 5, 6),
    timedelta.max,
    timedelta.min,
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("1E+30"),
    Decimal("NaN"),
    Decimal("sNaN12"),
    Decimal("-Infinity"),
    set(),
    pytest.param({1, "a", None, (1, 2), b"b", Decimal(2), date(2024, 1, 1)}, id="a mixed set"),
    frozenset({frozenset({1}), frozenset()}),
    bytearray(b""),
    bytearray(b"\x00\xff"),
    {1: "a", "b": 2},
    {"b": 2, 1: "a"},
    {(1, (2, "x")): {3: 4}},
    {None: 1, False: 2, 1.5: 3, b"k": 4, frozenset({5}): 6, UTC.utcoffset(None): 7},
    {" q:s": [1]},
    {" q:dt": "2024-05-01T00:00:00"},
    {" q:m": {1: 2}},
    2**63 - 1,
    -(2**63),
    2**64,
    -(10**4000),
    float("nan"),
    float("inf"),
    -float("inf"),
    -0.0,
    5e-324,
    1.7976931348623157e308,
    0.1 + 0.2,
    1e16,
    1e-7,
    123456789012.125,
    "\x00\x1f\x7f\u2028\uffff\U0010ffff",
    "\ud800",
    "\udfff\ud800",
    "é" * 17,
    "漢" * 17,
    "😀" * 17,
    "a" * 15 + '"',
    "a" * 31 + "\\",
    "a" * 70_000,
    "漢" * 70_000,
    "\x01" * 70_000,
    b"x" * 70_000,
    list(range(5000)),
]


@pytest.mark.parametrize("value", KEPT, ids=lambda value: repr(value)[:50])
def test_a_value_comes_back_with_its_type(serializer: Any, value: Any) -> None:
    read = serializer.loads(serializer.dumps({"x": value}))["x"]
    assert fuzzing.same(read, value)


def test_a_zone_comes_back_as_the_same_zone(serializer: Any) -> None:
    value = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    read = serializer.loads(serializer.dumps(value))
    assert read.tzinfo is BERLIN and read.utcoffset() == timedelta(hours=1)


def test_a_foreign_zone_is_kept_as_its_offset(serializer: Any) -> None:
    from datetime import tzinfo

    class Local(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(hours=9)

    read = serializer.loads(serializer.dumps(datetime(2024, 5, 1, tzinfo=Local())))
    assert read == datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=9)))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (fuzzing.Text("text"), "text"),
        (fuzzing.Number(5), 5),
        (fuzzing.Real(1.5), 1.5),
        (fuzzing.Items([1]), [1]),
        (fuzzing.Color.RED, 1),
        (fuzzing.Mood.GOOD, "good"),
        (fuzzing.Point(1, 2), (1, 2)),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aa"), {"a": 2}),
        (fuzzing.Page(), Markup("<p>page</p>")),
        ({fuzzing.Text("key"): 1}, {"key": 1}),
        ({fuzzing.Mood.GOOD: 1}, {"good": 1}),
        ({fuzzing.Text(" t"): [1]}, {" t": [1]}),
        ({fuzzing.Color.RED: 1}, {1: 1}),
        (type("Day", (date,), {})(2024, 5, 1), date(2024, 5, 1)),
        (type("Moment", (datetime,), {})(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)),
        (type("Blob", (bytes,), {})(b"x"), b"x"),
        (type("Bag", (set,), {})({1}), {1}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_subclass_is_read_as_its_base(serializer: Any, value: Any, read: Any) -> None:
    found = serializer.loads(serializer.dumps([value]))[0]
    assert type(found) is type(read) and found == read


def test_a_markup_subclass_says_itself_what_it_is(serializer: Any) -> None:
    class Shouting(Markup):
        def __html__(self) -> str:
            return self.upper()

    assert serializer.loads(serializer.dumps(Shouting("a"))) == Markup("A")


def test_a_surrogate_pair_is_read_as_the_character_it_means(serializer: Any) -> None:
    assert serializer.loads(serializer.dumps("\ud83d\ude00")) == "😀"


def test_latin_text_read_from_wide_text_is_equal_and_hashes_equal(serializer: Any) -> None:
    read = serializer.loads('["漢", "é", "\\u00e9", "a\\u0062"]')
    assert read == ["漢", "é", "é", "ab"] and hash(read[2]) == hash("é")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython 3.12 removed such strings")
@pytest.mark.parametrize("text", ["plain text", "é", "漢字" * 10, "😀"])
def test_a_string_that_a_deprecated_function_made_is_written_whole(
    serializer: Any, text: str
) -> None:
    """CPython 3.11 gives it the usual storage, and a length, only when somebody asks for these."""
    api, wide = ctypes.pythonapi, ctypes.create_unicode_buffer(text)
    api.PyUnicode_FromUnicode.restype = ctypes.py_object
    api.PyUnicode_AsUnicode.restype = ctypes.c_void_p
    with pytest.warns(DeprecationWarning):
        made = api.PyUnicode_FromUnicode(None, ctypes.c_ssize_t(len(wide) - 1))
    ctypes.memmove(api.PyUnicode_AsUnicode(ctypes.py_object(made)), wide, ctypes.sizeof(wide))
    assert serializer.dumps([made]) == b'["%s"]' % text.encode()


def test_sets_are_written_sorted_whatever_their_order(serializer: Any) -> None:
    numbers = list(range(0, 3000, 37))
    documents = set()
    for seed in range(10):
        random.Random(seed).shuffle(numbers)
        documents.add(serializer.dumps({*numbers, "é", "z", (1, 2)}))
    assert len(documents) == 1


def test_a_decimal_is_written_alike_in_every_context(serializer: Any) -> None:
    with localcontext() as context:
        context.capitals = 0
        context.prec = 2
        assert serializer.dumps(Decimal("1.2345E+9")) == b'{" q:n":"1.2345E+9"}'


def test_flasks_tag_is_used_where_it_loses_nothing(serializer: Any) -> None:
    moment = datetime(2024, 5, 1, 12, 30, 15, tzinfo=UTC)
    assert serializer.dumps(moment) == b'{" d":"Wed, 01 May 2024 12:30:15 GMT"}'


@pytest.mark.parametrize("start", [date(100, 1, 1), date(1899, 1, 1), date(2000, 1, 1)])
def test_every_day_has_its_right_name(serializer: Any, start: date) -> None:
    for days in range(0, 1500, 7):
        day = start + timedelta(days)
        moment = datetime(day.year, day.month, day.day, 1, 2, 3, tzinfo=UTC)
        assert serializer.dumps(moment) == FlaskSerializer().dumps(moment).encode()


@pytest.mark.parametrize(
    "document",
    [
        '{" q:d":"20240501"}',
        '{" q:d":"2024-13-01"}',
        '{" q:d":5}',
        '{" q:dt":"2024-05-01"}',
        '{" q:dt":"2024-05-01 12:00:00"}',
        '{" q:dt":"2024-05-01T12:00:00Z"}',
        '{" q:dt":"2024-05-01T12:00:00.100"}',
        '{" q:dt":"2024-05-01T12:00:00.000000"}',
        '{" q:dt":"2024-05-01T24:00:00"}',
        '{" q:dt":"2024-02-30T12:00:00"}',
        '{" q:dt":"0000-01-01T12:00:00"}',
        '{" q:dt":["2024-05-01T12:00:00"]}',
        '{" q:dt":["2024-05-01T12:00:00",null]}',
        '{" q:dt":["2024-05-01T12:00:00",null,0]}',
        '{" q:dt":["2024-05-01T12:00:00","Nowhere/Land"]}',
        '{" q:dt":["2024-05-01T12:00:00","../etc/passwd"]}',
        '{" q:t":"25:00:00"}',
        '{" q:t":12}',
        '{" q:td":[1,2]}',
        '{" q:td":[1,2,3.0]}',
        '{" q:td":[0,86400,0]}',
        '{" q:td":[true,0,0]}',
        '{" q:td":[99999999999,0,0]}',
        '{" q:n":"one"}',
        '{" q:n":" 1 "}',
        '{" q:n":1}',
        '{" q:b":"YQ"}',
        '{" q:b":"YR=="}',
        '{" q:b":1}',
        '{" q:s":"abc"}',
        '{" q:s":[[]]}',
        '{" q:f":{"a":1}}',
        '{" q:m":[[1]]}',
        '{" q:m":[[[],1]]}',
        '{" q:m":{"a":1}}',
    ],
)
def test_a_malformed_body_of_a_new_tag_is_refused(serializer: Any, document: str) -> None:
    with pytest.raises(CodecError, match="malformed tag ' q:"):
        serializer.loads(document)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([None, UTC, BERLIN]))
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(), inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=2), inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=3), max_size=5)
    ),
    max_leaves=25,
)


@given(json_values)
def test_any_value_comes_back(serializer_type: type[Any], value: Any) -> None:
    serializer = serializer_type()
    document = serializer.dumps(value)
    read = serializer.loads(document)
    assert serializer.dumps(read) == document
    if "\\ud" not in document.decode():
        assert fuzzing.same(read, value)
