"""Values and documents made to break the codec end in a clear error."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from datetime import time as time_of_day
from types import ModuleType
from typing import Any

import fuzzing
import pytest
from flask.json.tag import JSONTag
from growth import PROPORTIONAL, growth

from quart_session import _pure
from quart_session._pure.encoding import encode
from quart_session._pure.registry import Registry
from quart_session.errors import CodecError


class Acting:
    """Does something while it is written."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __html__(self) -> str:
        self.act()
        return "x"


CHANGED = "a dict or list changed while it was written"


@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.clear(),
        lambda c: c.pop(next(iter(c))),
        lambda c: c.update({f"new{i}": i for i in range(100)}),
        lambda c: (c.clear(), c.update(new=1)),
    ],
    ids=["clear", "pop", "grow", "replace"],
)
def test_a_dict_that_changes_while_it_is_written(
    serializer: Any, act: Callable[[Any], Any], last: bool
) -> None:
    container: dict[str, Any] = {"first": [], "second": 2}
    container["acting"] = Acting(lambda: act(container))
    if not last:
        container["more"] = 3
    with pytest.raises(CodecError, match=CHANGED) as caught:
        serializer.dumps({"x": container})
    assert str(caught.value) == f"session['x']: {CHANGED}"


def test_a_dict_whose_keys_change_but_not_their_number(serializer: Any) -> None:
    container: dict[Any, Any] = {}

    def act() -> None:
        del container["b"]
        container[5] = 1

    container.update(a=Acting(act), b=1, c=2)
    with pytest.raises(CodecError, match=CHANGED):
        serializer.dumps(container)


@pytest.mark.parametrize("act", [list.clear, list.pop, lambda c: c.extend(range(1000))])
def test_a_list_that_changes_while_it_is_written(
    serializer: Any, act: Callable[[Any], Any]
) -> None:
    container: list[Any] = [[], 1]
    container += [Acting(lambda: act(container)), 2]
    with pytest.raises(CodecError, match=CHANGED):
        serializer.dumps({"x": container})


def test_a_list_that_never_ends(serializer: Any) -> None:
    container: list[Any] = []

    def act() -> None:
        assert len(container) < 100
        container.append(Acting(act))

    act()
    with pytest.raises(CodecError) as caught:
        serializer.dumps(container)
    assert str(caught.value) == f"session: {CHANGED}"
    assert len(container) == 2


class ActingZone(tzinfo):
    """Does something when it is asked for its offset."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def utcoffset(self, moment: datetime | None) -> timedelta:
        self.act()
        return timedelta(0)


@pytest.mark.parametrize("moment", [datetime(2024, 5, 1), time_of_day(12)], ids=repr)
def test_a_list_that_a_zone_changes_while_it_is_written(serializer: Any, moment: Any) -> None:
    container: list[Any] = []
    container.append(moment.replace(tzinfo=ActingZone(lambda: container.append(1))))
    with pytest.raises(CodecError, match=CHANGED):
        serializer.dumps(container)


def test_an_outer_container_that_changes_while_an_inner_one_is_written(serializer: Any) -> None:
    outer: dict[str, Any] = {}
    outer["inner"] = {"deep": [{"deeper": Acting(outer.clear)}, "still written"]}
    outer["other"] = 1
    with pytest.raises(CodecError, match=f"session: {CHANGED}"):
        serializer.dumps(outer)


def test_a_set_may_change_while_it_is_written(serializer: Any) -> None:
    container: set[Any] = {1, 2, 3}
    container.add(Acting(container.clear))
    assert len(serializer.loads(serializer.dumps(container))) == 4


def test_the_codec_may_be_used_while_it_writes_and_reads(serializer_type: type[Any]) -> None:
    inner, outer = serializer_type(), serializer_type()
    results = []

    class TagReading(JSONTag):
        key = " r"

        def check(self, value: Any) -> bool:
            return isinstance(value, fuzzing.Foreign)

        def to_json(self, value: Any) -> Any:
            results.append(inner.loads(inner.dumps({"a": [1, (2,)] * 5000})))
            return outer.dumps(["nested"]).decode()

        def to_python(self, value: Any) -> Any:
            results.append(inner.loads(inner.dumps({"b": {3}})))
            return outer.loads(value)

    outer.register(TagReading)
    value = {"x": ["before" * 100, fuzzing.Foreign(), "after" * 100]}
    assert outer.loads(outer.dumps(value)) == {"x": ["before" * 100, ["nested"], "after" * 100]}
    assert results == [{"a": [1, (2,)] * 5000}, {"b": {3}}]


@pytest.mark.both_arms
def test_the_codec_may_be_used_by_what_garbage_runs_while_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In CPython 3.11 any new dict can be the occasion, the copy of one that is kept as well.

    A copy that differs is noticed, and the pure arm reads the document instead.
    """
    import comparing

    serializer = comparing.Compiled()
    alive: list[Any] = []

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            for i in range(3000):
                for _ in range(2):
                    serializer.loads(b'{"a%d":1,"b%d":2,"c%d":3}' % (i, i, i))
            alive.append([{"in the place": "of dicts that are gone"} for _ in range(200)])

    document = b'{"a":1,"b":2}'
    for _ in range(3):
        serializer.loads(document)
    monkeypatch.setattr(_pure, "loads", lambda *_: pytest.fail("what was copied was freed"))
    threshold = gc.get_threshold()
    gc.disable()
    try:
        alive.append([{} for _ in range(200)])  # no dead dict is left to be used again
        Garbage()
        gc.set_threshold(1)
        gc.enable()
        read = serializer.loads(document)
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    gc.collect()
    assert read == {"a": 1, "b": 2} and len(alive) == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"k": v},
        lambda v: {1: v},
        lambda v: {" t": v},
        lambda v: fuzzing.Items([v]),
        lambda v: fuzzing.OrderedDict(k=v),
    ],
)
def test_nesting_has_a_limit_and_what_is_written_can_be_read(
    serializer: Any, wrap: Callable[[Any], Any]
) -> None:
    value: Any = 1
    deepest = None
    for depth in range(710):
        value = wrap(value)
        if depth < 225:
            continue
        try:
            deepest = serializer.dumps(value)
        except CodecError as error:
            assert "nested deeper than 700 levels, or it contains itself" in str(error)
            break
    else:
        pytest.fail("no limit")
    assert deepest is not None
    serializer.loads(deepest)


def test_a_part_of_a_document_has_only_the_levels_that_are_left() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert encode(Registry(full=True), value, 500) == b"[" * 200 + b"1" + b"]" * 200
    with pytest.raises(CodecError, match="nested deeper"):
        encode(Registry(full=True), value, 501)


@pytest.mark.parametrize(
    "tagged",
    [
        b"b",
        fuzzing.Point(1, 2),
        fuzzing.date(2024, 1, 1),
        {1},
        fuzzing.timedelta(1),
        fuzzing.uuid.UUID(int=1),
    ],
    ids=repr,
)
def test_a_tag_at_the_limit_is_refused_or_can_be_read(serializer: Any, tagged: Any) -> None:
    for depth in (697, 698, 699, 700):
        value = tagged
        for _ in range(depth):
            value = [value]
        try:
            document = serializer.dumps(value)
        except CodecError:
            continue
        serializer.loads(document)


def nested(depth: int) -> Any:
    """Short keys, many of them open at once."""
    value: Any = fuzzing.uuid.UUID(int=5)
    for _ in range(depth):
        value = {"sixteen letters.": (value,)}
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(nested(depth) for depth in (0, 1, 5, 20, 40)),
        [[[[[[{}]]]]]],
        *("x" * n for n in (15, 16, 17, 40)),
        "漢" * 5,
        "漢" * 40,
        "漢" * 21 + "😀",
        "é" * 40,
        "\x01" * 20,
        b"x" * 50,
        {"k" * 100: -(2**62)},
        fuzzing.datetime(2024, 1, 1, 1, 1, 1, 5, fuzzing.UTC),
        fuzzing.Point(1, 2),
        0.1 + 0.2,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_document_may_outgrow_its_buffer_at_any_place(serializer: Any, value: Any) -> None:
    """It is of 64 KB. Only a sanitizer sees every write behind its end."""
    document = serializer.dumps(value)
    for before in range((1 << 16) - len(document) - 140, 1 << 16):
        text = "x" * before
        assert serializer.dumps([text, value]) == b'["%s",%s]' % (text.encode(), document)


def test_what_contains_itself_is_refused(serializer: Any) -> None:
    loop: list[Any] = []
    loop.append({"x": (loop,)})
    with pytest.raises(CodecError, match="contains itself"):
        serializer.dumps(loop)
    mapping: dict[Any, Any] = {}
    mapping[1] = mapping
    with pytest.raises(CodecError, match="contains itself"):
        serializer.dumps(mapping)


def test_nesting_takes_no_stack(serializer: Any) -> None:
    """In a thread with the smallest stack that Python itself can run in."""
    outcomes: list[Any] = []

    def work() -> None:
        value: Any = 1
        for _ in range(690):
            value = [value]
        document = serializer.dumps(value)
        outcomes.append(serializer.loads(document) is not None)
        for bad in (b"[" * 10_000_000, b'{"a":' * 100_000, b'{" t":[' * 100_000):
            try:
                serializer.loads(bad)
            except CodecError:
                outcomes.append(True)
        loop: list[Any] = []
        loop.append(loop)
        try:
            serializer.dumps(loop)
        except CodecError:
            outcomes.append(True)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert outcomes == [True] * 5


def test_threads_share_the_codec(serializer: Any) -> None:
    value = {"a": [Acting(lambda: time.sleep(0.001)), "x" * 1000, (1, {2})]}
    expected = serializer.dumps(value)
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(20):
            if serializer.dumps(value) != expected or serializer.loads(expected)["a"][2] != (
                1,
                {2},
            ):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_value_lives_on_after_the_call(serializer: Any) -> None:
    class Text(str):
        pass

    kept = Text("kept" * 10)
    reference = weakref.ref(kept)
    serializer.dumps({"a": [kept, {kept: kept}, {kept}]})
    del kept
    gc.collect()
    assert reference() is None
    for _ in range(5):
        read = serializer.loads(b'{"key":"some value that nothing else holds","n":123456789012}')
        text = read.pop("key")
        assert sys.getrefcount(text) == sys.getrefcount("".join(["a new ", "text"]))


def test_sessions_of_the_same_keys_share_no_more_than_these(serializer: Any) -> None:
    document = b'{"a":[1],"b":{"c":"text"},"d":null}'
    fresh = {"a": [1], "b": {"c": "text"}, "d": None}
    read = [serializer.loads(document) for _ in range(6)]
    read[3]["a"].append(2)
    read[3].update(b=1, more=2)
    del read[4]["a"]
    read[5].clear()
    assert read[:3] == [fresh] * 3
    assert read[3:] == [{"a": [1, 2], "b": 1, "d": None, "more": 2}, {**read[4]}, {}]
    assert list(read[4]) == ["b", "d"]
    assert serializer.loads(document) == fresh
    assert all(map(gc.is_tracked, read[:5]))  # or a cycle through one of them would stay for good


def refusing(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(argument: Any) -> None:
        with contextlib.suppress(CodecError):
            function(argument)

    return call


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b"[" + b"[]," * n + b"1]",
        lambda n: b'"' + b"\\u00e9" * n + b'"',
        lambda n: b'"' + "é漢😀".encode() * n + b'"',
        lambda n: b'"' + b"a\\" * n + b'"',
        lambda n: b'"' + b"a" * 6 * n,
        lambda n: b"[" + b'{" u":"x'[:5] + b'u":1},' * n,
        lambda n: b"[" + b'{" m":"abc" },' * n + b"1]",
        lambda n: b"[" + b'{" t":[1],"b":2},' * n + b"1]",
        lambda n: b"[" + b'{" d":"x"},' * n + b"1]",
        lambda n: b"{" + b",".join(b'"%d":%d' % (i, i) for i in range(n)) + b"}",
        lambda n: b"0." + b"1" * n,
        lambda n: b" " * 5 * n + b"1",
        lambda n: b'{" b":"' + b"AAAA" * n + b'"}',
        lambda n: b'{" b":"' + b"AAAA" * n + b'!"}',
    ],
    ids=range(14),
)
def test_reading_costs_in_proportion(serializer: Any, make: Callable[[int], bytes]) -> None:
    assert growth(refusing(serializer.loads), make(1_000), make(16_000)) < PROPORTIONAL


@pytest.mark.parametrize(
    "make",
    [
        lambda n: ["é漢\x01"] * n,
        lambda n: "\x01" * n,
        lambda n: {i: [i] for i in range(n)},
        lambda n: {str(i): i for i in range(n)} | {0: 1},
        lambda n: [{"a": 1, 2: 3}] * n,
        lambda n: set(range(n)),
        lambda n: [{1}] * n,
        lambda n: [0.1 + 0.2] * n,
        lambda n: [fuzzing.Page()] * n,
        lambda n: b"x" * n,
    ],
    ids=range(10),
)
def test_writing_costs_in_proportion(serializer: Any, make: Callable[[int], Any]) -> None:
    assert growth(refusing(serializer.dumps), make(500), make(8_000)) < PROPORTIONAL


def test_keys_of_several_types_nested_cost_no_more_the_deeper(serializer: Any) -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = {"a": value, 1: 2}
        return value

    assert growth(serializer.dumps, nested(60), nested(120)) < 10


def test_a_codec_that_was_not_initialised_is_an_error(arm: ModuleType) -> None:
    codec = arm.Codec.__new__(arm.Codec)
    with pytest.raises((TypeError, AttributeError)):
        codec.dumps(1)
    with pytest.raises((TypeError, AttributeError)):
        codec.loads(b'{" t":[1]}')
