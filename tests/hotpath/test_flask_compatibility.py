"""What holds for Flask's serializer holds for this one, and each reads the other's documents."""

from __future__ import annotations

import dataclasses
import random
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import fuzzing
import pytest
from flask.json.tag import JSONTag
from flask.json.tag import TaggedJSONSerializer as FlaskSerializer
from markupsafe import Markup

from quart_session.errors import CodecError

UNCHANGED = [
    {" t": (1, 2, 3)},
    {" t__": b"a"},
    {" di": " di"},
    {"x": (1, 2, 3), "y": 4},
    (1, 2, 3),
    [(1, 2, 3)],
    b"\xff",
    Markup("<html>"),
    UUID("8f6e6f0c-64f5-4d38-8b9f-3f8f9a3a5c21"),
    datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC),
    {},
    [],
    (),
    "",
    b"",
    {"": ""},
    {" u": {" u": {" u": 1}}},
    {" di": {" di__": {" di": 1}}},
]


@pytest.mark.parametrize("value", UNCHANGED, ids=repr)
def test_a_value_comes_back_unchanged(serializer: Any, value: Any) -> None:
    assert fuzzing.same(serializer.loads(serializer.dumps(value)), value)


@pytest.mark.parametrize("value", UNCHANGED, ids=repr)
def test_flask_reads_what_is_written(serializer: Any, value: Any) -> None:
    assert fuzzing.same(FlaskSerializer().loads(serializer.dumps(value).decode()), value)


@pytest.mark.parametrize("value", UNCHANGED, ids=repr)
def test_what_flask_writes_is_read(serializer: Any, value: Any) -> None:
    assert fuzzing.same(serializer.loads(FlaskSerializer().dumps(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        *UNCHANGED,
        "é漢😀\x7f\ud800",
        {2: 2, None: 3, True: 4, 1.5: 5, float("nan"): 6, "1": 7},
        {1: "one key, and no string"},
        datetime(2024, 5, 1, 12, 30, 15, 999),
        datetime(24, 5, 1),
        datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2))),
        date(2024, 5, 1),
        Decimal("1.10"),
        [float("inf"), -float("inf"), 1e16, 1e-5, -0.0],
        fuzzing.Page(),
        fuzzing.Color.RED,
        fuzzing.Point(1, 2),
        2**100,
    ],
    ids=repr,
)
def test_flask_mode_writes_the_bytes_that_flask_writes(flask_mode: Any, value: Any) -> None:
    assert flask_mode.dumps(value) == FlaskSerializer().dumps(value).encode()


def test_flask_mode_reads_all_tags(serializer: Any, flask_mode: Any) -> None:
    value = {"set": {1, 2}, "date": date(2024, 5, 1)}
    assert flask_mode.loads(serializer.dumps(value)) == value


@dataclasses.dataclass
class Address:
    city: str
    since: date


def test_a_dataclass_is_written_as_its_fields(serializer: Any, flask_mode: Any) -> None:
    value = Address("Paris", date(2024, 5, 1))
    assert serializer.loads(serializer.dumps(value)) == {"city": "Paris", "since": value.since}
    assert flask_mode.dumps(value) == FlaskSerializer().dumps(value).encode()


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ('{" t":"ab"}', ("a", "b")),
        ('{" t":{"a":1}}', ("a",)),
        ('{" t":[1],"x":2}', {" t": [1], "x": 2}),
        ('{" t":[1], " t":[2]}', (2,)),
        ('{" t" : [1] }', (1,)),
        ('{" b":"YQ"}', CodecError),
        ('{" b":"Y Q=="}', b"a"),
        ('{" b":{" b":"WVE9PQ=="}}', b"a"),
        ('{" b":5}', CodecError),
        ('{" m":null}', Markup("None")),
        ('{" m":[1]}', Markup("[1]")),
        ('{" u":"{12345678123456781234567812345678}"}', UUID("12345678" * 4)),
        ('{" u":"urn:uuid:12345678-1234-5678-1234-567812345678"}', UUID("1234567812345678" * 2)),
        ('{" u":"1234"}', CodecError),
        ('{" u":"-0000000000000000000000000000000"}', CodecError),
        ('{" u":"0x0000000000000000000000000000_1"}', UUID(int=1)),
        ('{" u":12}', CodecError),
        ('{" d":null}', None),
        ('{" d":"gibberish"}', None),
        ('{" d":5}', CodecError),
        ('{" d":"Xyz, 01 May 2024 12:00:00 GMT"}', datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ('{" d":"Wed, 31 Feb 2024 12:00:00 GMT"}', None),
        ('{" d":"Wed, 01 May 2024 24:00:00 GMT"}', None),
        ('{" d":"Wed, 01 May 0024 12:00:00 GMT"}', datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (
            '{" d":"Wed, 01 May 2024 12:00:00 +0200"}',
            datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        ),
        ('{" di":{" t__":1}}', {" t": 1}),
        ('{" di":{"ab":1,"c":2}}', {"": 1}),
        ('{" di":"abc"}', CodecError),
        ('{" di":{}}', CodecError),
        ('{" di":[]}', CodecError),
        ('{" di":5}', CodecError),
        ('{"a":{" u":"malformed, but the key comes again"},"a":1}', {"a": 1}),
    ],
)
def test_a_malformed_tag_gives_what_flask_gives(serializer: Any, document: str, value: Any) -> None:
    if value is CodecError:
        with pytest.raises(Exception):  # noqa: B017 - Flask raises all sorts of errors
            FlaskSerializer().loads(document)
        with pytest.raises(CodecError):
            serializer.loads(document)
    else:
        assert fuzzing.same(FlaskSerializer().loads(document), value)
        assert fuzzing.same(serializer.loads(document), value)


# Tags of the application


class Foo:
    def __init__(self, data: Any) -> None:
        self.data = data


class TagFoo(JSONTag):
    __slots__ = ()
    key = " f"

    def check(self, value: Any) -> bool:
        return isinstance(value, Foo)

    def to_json(self, value: Any) -> Any:
        return self.serializer.tag(value.data)

    def to_python(self, value: Any) -> Any:
        return Foo(value)


class TagOrderedDict(JSONTag):
    __slots__ = ()
    key = " od"

    def check(self, value: Any) -> bool:
        return isinstance(value, OrderedDict)

    def to_json(self, value: Any) -> Any:
        return [[k, self.serializer.tag(v)] for k, v in value.items()]

    def to_python(self, value: Any) -> Any:
        return OrderedDict(value)


def test_a_key_is_registered_once_unless_forced(serializer: Any) -> None:
    class TagOther(JSONTag):
        key = " d"

    with pytest.raises(KeyError):
        serializer.register(TagOther)
    serializer.register(TagOther, force=True, index=0)
    assert isinstance(serializer.tags[" d"], TagOther)
    assert isinstance(serializer.order[0], TagOther)


def test_a_registered_tag_stores_what_could_not_be_stored(serializer: Any) -> None:
    with pytest.raises(CodecError, match="object of type Foo"):
        serializer.dumps(Foo("bar"))
    serializer.register(TagFoo)
    assert serializer.loads(serializer.dumps({"x": [Foo((1, b"2"))]}))["x"][0].data == (1, b"2")


@pytest.mark.parametrize("claims", [{}, {"check": lambda self, value: True}])
def test_a_tag_without_its_methods_is_an_error_where_one_is_needed(
    serializer: Any, claims: dict[str, Any]
) -> None:
    serializer.register(type("TagLacking", (JSONTag,), {"key": " lacking", **claims}))
    for use in (lambda: serializer.dumps(Foo(1)), lambda: serializer.loads('{" lacking":1}')):
        with pytest.raises(CodecError) as raised:
            use()
        assert isinstance(raised.value.__cause__, NotImplementedError)


def test_index_says_where_in_the_order_a_tag_goes(serializer: Any) -> None:
    class Tag1(JSONTag):
        key = " 1"

    class Tag2(JSONTag):
        key = " 2"

    serializer.register(Tag1, index=-1)
    assert isinstance(serializer.order[-2], Tag1)
    serializer.register(Tag2, index=None)
    assert isinstance(serializer.order[-1], Tag2)


def test_a_tag_at_the_front_claims_a_dict_subclass(serializer: Any) -> None:
    serializer.register(TagOrderedDict, index=0)
    value = OrderedDict(b=1, a=OrderedDict(c=(2,)))
    assert fuzzing.same(serializer.loads(serializer.dumps({"x": value}))["x"], value)


def test_tags_nest_as_in_flask(serializer_type: type[Any]) -> None:
    ours, flasks = serializer_type("flask"), FlaskSerializer()
    for one in (ours, flasks):
        one.register(TagOrderedDict, index=0)
        one.register(TagFoo)
    value = Foo(OrderedDict(x=[Foo(1), OrderedDict(y=Foo({" f": 1}))]))
    assert ours.dumps(value) == flasks.dumps(value).encode()


def test_a_tag_without_index_is_never_asked_about_values_on_the_fast_path(serializer: Any) -> None:
    asked: list[Any] = []

    class TagNosy(JSONTag):
        key = " nosy"

        def check(self, value: Any) -> bool:
            asked.append(value)
            return False

    serializer.register(TagNosy)
    asked.clear()
    serializer.dumps({"a": ["text", 1, 1.5, None, True, (1,), b"b", Markup("m"), UUID(int=1)]})
    assert asked == []


def test_a_tag_without_index_may_claim_plain_values(serializer_type: type[Any]) -> None:
    class TagText(JSONTag):
        key = " text"

        def check(self, value: Any) -> bool:
            return isinstance(value, str)

        def to_json(self, value: Any) -> Any:
            return value[::-1]

        def to_python(self, value: Any) -> Any:
            return value[::-1]

    ours, flasks = serializer_type("flask"), FlaskSerializer()
    for one in (ours, flasks):
        one.register(TagText)
    value = {"key": ["text", Markup("markup"), 1]}
    assert (
        ours.dumps(value) == flasks.dumps(value).encode() and ours.loads(ours.dumps(value)) == value
    )


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 5, 6, 7, 8, -1, -3])
def test_a_tag_with_index_is_asked_in_flasks_order(serializer_type: type[Any], index: int) -> None:
    """A tag that claims everything it is asked about shows whom it is asked about."""

    class TagGreedy(JSONTag):
        key = " greedy"

        def check(self, value: Any) -> bool:
            return type(value) is not str

        def to_json(self, value: Any) -> Any:
            return type(value).__name__

    ours, flasks = serializer_type("flask"), FlaskSerializer()
    for one in (ours, flasks):
        one.register(TagGreedy, index=index)
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    for value in (*UNCHANGED, 1, None, 1.5, True, "text", moment, [moment, {"x": b"y"}]):
        assert ours.dumps(value) == flasks.dumps(value).encode(), value


def test_a_registered_tag_comes_before_the_tags_beyond_flasks(serializer: Any) -> None:
    class TagSet(JSONTag):
        key = " s"

        def check(self, value: Any) -> bool:
            return isinstance(value, set)

        def to_json(self, value: Any) -> Any:
            return sorted(value)

        def to_python(self, value: Any) -> Any:
            return set(value)

    serializer.register(TagSet)
    assert serializer.dumps({1, 2}) == b'{" s":[1,2]}'
    assert serializer.loads(b'{" s":[1,2]}') == {1, 2}


def test_a_forced_tag_takes_over_reading(serializer: Any) -> None:
    class TagMine(JSONTag):
        key = " u"

        def check(self, value: Any) -> bool:
            return False

        def to_python(self, value: Any) -> Any:
            return ("mine", value)

    serializer.register(TagMine, force=True)
    written = serializer.dumps(UUID(int=1))
    assert serializer.loads(written) == ("mine", f"{1:032x}")


def test_a_tag_with_a_key_that_starts_without_a_space_is_read(serializer: Any) -> None:
    class TagBare(TagFoo):
        key = "foo"

    serializer.register(TagBare)
    assert serializer.loads(serializer.dumps(Foo(1))).data == 1
    assert serializer.loads(serializer.dumps({"foo": 1})) == {"foo": 1}


def test_untag_and_tag_are_each_others_inverse(serializer: Any) -> None:
    assert serializer.tag({"x": (1,)}) == {"x": {" t": [1]}}
    assert serializer.untag({" t": [1]}) == (1,)
    assert serializer.untag({"a": 1, "b": 2}) == {"a": 1, "b": 2}


@pytest.mark.both_arms
@pytest.mark.parametrize("check", ["check_flask_reads", "check_reading_like_flask"])
def test_random_input_gives_what_flask_gives(check: str) -> None:
    import comparing

    getattr(comparing, check)(random.Random(), 15_000)
