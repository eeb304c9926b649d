"""What cannot be stored is named by its path; errors never show the data."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import fuzzing
import pytest
from flask.json.tag import JSONTag

from quart_session.errors import CodecError


class Widget:
    pass


class Failing:
    def __html__(self) -> str:
        raise LookupError("secret")


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


class HashableBytes(bytearray):
    __hash__ = object.__hash__  # type: ignore[assignment]


class FailingItems(dict):
    def items(self) -> Any:
        raise LookupError("secret")


def refusal(serializer: Any, value: Any) -> str:
    with pytest.raises(CodecError) as caught:
        serializer.dumps(value)
    assert type(caught.value) is CodecError
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Widget(), "session: object of type Widget"),
        (
            {"cart": [0, 1, 2, {"size": Widget()}]},
            "session['cart'][3]['size']: object of type Widget",
        ),
        ({"a": (1, Widget())}, "session['a'][1]: object of type Widget"),
        ({"a": {1: Widget()}}, "session['a'][1]: object of type Widget"),
        ({"a": {None: 1, 2.5: Widget()}}, "session['a'][2.5]: object of type Widget"),
        ({"a": {(1,): Widget()}}, "session['a'][<tuple>]: object of type Widget"),
        ({"a": {Widget(): 1}}, "session['a']<key>: object of type Widget"),
        ({"a": {Widget()}}, "session['a']<element>: object of type Widget"),
        ({"a": {(1, Widget())}}, "session['a']<element>[1]: object of type Widget"),
        ({" t": Widget()}, "session[' t']: object of type Widget"),
        ({" t": [{" t": Widget()}]}, "session[' t'][0][' t']: object of type Widget"),
        ({"a": fuzzing.OrderedDict(b=Widget())}, "session['a']['b']: object of type Widget"),
        ({"a": fuzzing.Items([Widget()])}, "session['a'][0]: object of type Widget"),
        ({"a": fuzzing.Point(1, Widget())}, "session['a'][1]: object of type Widget"),
        ({"a": {"b": 1j}}, "session['a']['b']: object of type complex"),
        ([Widget], "session[0]: object of type type"),
        ({"a": 10**5000}, "session['a']: integer with more digits than Python converts"),
        (
            {"a": fuzzing.Number(10**5000)},
            "session['a']: integer with more digits than Python converts",
        ),
        ({"a": Failing()}, "session['a']: object of type Failing raised LookupError"),
        ({"a": FailingItems(b=1)}, "session['a']: object of type FailingItems raised LookupError"),
        (
            {"a": {Point(1)}},
            "session['a']<element>: object of type Point in a set or a key, "
            "where it would read back as unhashable",
        ),
        (
            {Point(1): 1},
            "session<key>: object of type Point in a set or a key, "
            "where it would read back as unhashable",
        ),
        (
            {HashableBytes(b"a")},
            "session<element>: object of type HashableBytes in a set or a key, "
            "where it would read back as unhashable",
        ),
        ({"k" * 100: Widget()}, f"session['{'k' * 64}'…]: object of type Widget"),
        (
            [[[[[[[[[[Widget()]]]]]]]]]],
            "session[0][0][0][0][0][0][0][0]…: object of type Widget",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_the_path_and_the_type(serializer: Any, value: Any, message: str) -> None:
    assert refusal(serializer, value) == message


def test_the_applications_own_error_is_the_cause(serializer: Any) -> None:
    with pytest.raises(CodecError) as caught:
        serializer.dumps({"a": Failing()})
    assert isinstance(caught.value.__cause__, LookupError)


def test_flask_mode_names_the_path_too(flask_mode: Any) -> None:
    assert refusal(flask_mode, {"a": [{1, 2}]}) == "session['a'][0]: object of type set"
    assert refusal(flask_mode, {"a": {(1,): 2}}) == "session['a']: key of type tuple"


def test_two_keys_with_the_same_text_are_refused(serializer: Any) -> None:
    class Odd(str):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    assert refusal(serializer, {"a": {"k": 1, Odd("k"): 2}}) == (
        "session['a']: two keys with the same text"
    )


def test_a_registered_tags_error_names_the_path(serializer: Any) -> None:
    class TagWidget(JSONTag):
        key = " w"

        def check(self, value: Any) -> bool:
            return isinstance(value, Widget)

        def to_json(self, value: Any) -> Any:
            return {"inner": self.serializer.tag([1, 1j])}

    serializer.register(TagWidget)
    assert refusal(serializer, {"a": Widget()}) == "session['a'][1]: object of type complex"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_must_pass_passes(serializer: Any, error: type[BaseException]) -> None:
    class Interrupting:
        def __html__(self) -> str:
            raise error

    with pytest.raises(error):
        serializer.dumps({"a": [Interrupting()]})
    assert serializer.dumps({"a": 1}) == b'{"a":1}'


@pytest.mark.parametrize(
    "document",
    [
        b'{"a": "secret" x}',
        b'{" u":"secret"}',
        b'{" q:d":"secret"}',
        b'{" q:n":"secret"}',
        b'"secret \xff"',
        b'{" b":"secre"}',
    ],
)
def test_an_error_of_reading_shows_nothing_of_the_document(
    serializer: Any, document: bytes
) -> None:
    with pytest.raises(CodecError) as caught:
        serializer.loads(document)
    assert type(caught.value) is CodecError
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "secre" not in repr(seen) and "secre" not in repr(vars(seen))
        seen = seen.__cause__ or seen.__context__


def test_a_registered_tags_error_of_reading_is_the_cause(serializer: Any) -> None:
    class TagWidget(JSONTag):
        key = " w"

        def check(self, value: Any) -> bool:
            return False

        def to_python(self, value: Any) -> Any:
            raise StopIteration

    serializer.register(TagWidget)
    with pytest.raises(CodecError, match=re.escape("malformed tag ' w'")) as caught:
        serializer.loads('[{" w":1}]')
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize("data", [None, 5, 1.5, [], {}, object()])
def test_a_document_is_bytes_or_text(serializer: Any, data: Any) -> None:
    with pytest.raises(TypeError, match="a session document is bytes or str, not"):
        serializer.loads(data)


def test_the_mode_is_one_of_two(serializer_type: type[Any]) -> None:
    with pytest.raises(ValueError, match="tags must be 'full' or 'flask', not 'json'"):
        serializer_type("json")
