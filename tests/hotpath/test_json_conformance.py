"""The reader takes JSON as Python's standard library does, and nothing else."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import fuzzing
import pytest

from quart_session.errors import CodecError

ACCEPTED = [
    *(
        [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "10",
            "123456789012345678",
            "1234567890123456789",
            "-0.0",
            "0.1",
            "1e5",
            "1E5",
        ]
    ),
    *(
        [
            "1e+5",
            "1e-5",
            "1.5e-5",
            "0e0",
            "0.0e-0",
            "1e400",
            "-1e400",
            "1e-400",
            "123e65",
            "0.3",
            "17.9",
            "1.7976931348623157e308",
        ]
    ),
    *(
        [
            "5e-324",
            "2.2250738585072011e-308",
            "9007199254740993.0",
            "0.1000000000000000055511151231257827",
        ]
    ),
    *(
        [
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
        ]
    ),
    *(["18446744073709551615", "18446744073709551616", "123456789012345678901234567890"]),
    *(["NaN", "Infinity", "-Infinity"]),
    "0." + "0" * 400 + "1",
    "1" * 400 + ".5",
    "1" * 30 + "e-30",
    "1e" + "0" * 50 + "5",
    *(
        [
            '""',
            '"a"',
            '"\\""',
            '"\\\\"',
            '"\\/"',
            '"\\b\\f\\n\\r\\t"',
            '"\\u0041"',
            '"\\u00e9"',
            '"\\uD83D\\uDE00"',
        ]
    ),
    *(
        [
            '"\\ud800"',
            '"\\udc00\\ud800"',
            '"\\ud83d\\u0041"',
            '"\\ud83dx"',
            '"\\ud83d\\ud83d\\ude00"',
            '"é漢😀"',
        ]
    ),
    '"' + "a" * 15 + '"',
    '"' + "a" * 16 + '"',
    '"' + "é" * 33 + '"',
    '"' + "漢" * 33 + '\\n"',
    '"\x7f"',
    "[]",
    "[1]",
    "[ 1 , 2 ]",
    "[[],[[]],{}]",
    "{}",
    '{ "a" : 1 }',
    '{"a":1,"b":2,"a":3}',
    '{"":{"":""}}',
    '{"\\u0061":1,"a":2}',
    '{"a long key with more than sixteen bytes":1,"é":2,"漢":3}',
    " \t\n\r[ \t\n\r1 \t\n\r] \t\n\r",
    '{"a":[{"b":[{"c":[]}]}]}',
    "[" * 700 + "]" * 700,
    '{"a":' * 700 + "1" + "}" * 700,
]
REFUSED = [
    *(
        [
            "01",
            "-01",
            "00",
            "+1",
            ".5",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "-",
            "-a",
            "0x10",
            "1_000",
            "1,5",
            "\u0661",
            "nul",
            "nulll",
            "True",
            "None",
            "nan",
            "inf",
            "-NaN",
        ]
    ),
    *(["+Infinity", "Infinit", "-Infinit", "-"]),
    *(["[", "]", "[1", "[1,", "[1,]", "[,]", "[,1]", "[1,,2]", "[1:2]", "[1}"]),
    *(
        [
            "{",
            "}",
            '{"a"',
            '{"a":',
            '{"a":1',
            '{"a":1,',
            '{"a":1,}',
            "{,}",
            "{1:2}",
            "{a:1}",
            '{"a"1}',
            '{"a":1]',
        ]
    ),
    *(["{'a':1}", '{"a":1,,"b":2}', '{"a":}']),
    *(
        [
            '"',
            '"a',
            '"\\',
            '"\\x"',
            '"\\u"',
            '"\\u1"',
            '"\\u123"',
            '"\\u123g"',
            '"\\u',
            '123"',
            '"\\a"',
            '"\\U00000041"',
        ]
    ),
    '"\t"',
    '"\n"',
    '"\x00"',
    '"\x1f"',
    '"a' + "b" * 20 + '\n"',
    "'a'",
    "",
    " ",
    "1 2",
    "[] []",
    "{}{}",
    "null,",
    "[1]x",
    "\ufeff1",
    "/* */ 1",
    "// \n1",
    "\x0b1",
    "\xa01",
    "\u20281",
    "1\x00",
    "\x001",
    "9" * 4301,
    "[" * 701 + "]" * 701,
    '{"a":' * 701 + "1" + "}" * 701,
    "[" * 10_000_000,
    '{"a":' * 1_000_000,
    '{" t":[' * 1_000_000,
]
INVALID_UTF8 = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3",
    b"\xc3(",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xe6\xbc",
    b"\xe6\xbc(",
    b"\xe6(\xa2",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x9f\x98",
    b"\xf0\x9f(\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xfe",
    b"\xff",
]


def short(text: str) -> str:
    return ascii(text[:40])


@pytest.mark.parametrize("text", ACCEPTED, ids=short)
def test_it_reads_what_the_standard_library_reads(serializer: Any, text: str) -> None:
    expected = json.loads(text)
    assert fuzzing.same(serializer.loads(text), expected)
    assert fuzzing.same(serializer.loads(text.encode()), expected)


@pytest.mark.parametrize("text", REFUSED, ids=short)
def test_it_refuses_what_is_not_json(serializer: Any, text: str) -> None:
    with pytest.raises(CodecError):
        serializer.loads(text)
    with pytest.raises(CodecError):
        serializer.loads(text.encode())


@pytest.mark.parametrize("data", INVALID_UTF8)
@pytest.mark.parametrize("around", ["", "a" * 20, "é", "漢", "😀", "\\n"])
def test_invalid_utf8_is_refused(serializer: Any, data: bytes, around: str) -> None:
    for document in (
        b'"%s%s%s"' % (around.encode(), data, around.encode()),
        b'{"%s%s":1}' % (around.encode(), data),
        b'"%s%s' % (around.encode(), data),
    ):
        with pytest.raises(CodecError):
            serializer.loads(document)


@pytest.mark.parametrize("data", INVALID_UTF8)
def test_invalid_utf8_is_refused_anywhere_in_a_run_of_wide_text(
    serializer: Any, data: bytes
) -> None:
    for at in range(40):
        document = b'"%s%s%s"' % ("漢".encode() * at, data, "字".encode() * (50 - at))
        with pytest.raises(CodecError):
            serializer.loads(document)


def test_three_bytes_that_are_too_long_or_a_surrogate_are_refused(serializer: Any) -> None:
    too_long = [bytes([0xE0, 0x80 | c >> 6, 0x80 | c & 0x3F]) for c in range(0x800)]
    surrogates = [chr(c).encode("utf-8", "surrogatepass") for c in range(0xD800, 0xE000)]
    for i, three in enumerate(too_long + surrogates):
        run = ["漢".encode()] * 40
        run[i % 40] = three
        with pytest.raises(CodecError):
            serializer.loads(b'"%s"' % b"".join(run))


def test_every_character_is_written_and_read_as_utf8(serializer: Any) -> None:
    every = [*range(0x80, 0xD800), *range(0xE000, 0x10000)]
    for characters in (every, every[::-1], [*every, 0x10000, 0x10FFFF]):
        text = "".join(map(chr, characters))
        assert serializer.dumps(text) == b'"%s"' % text.encode()
        assert serializer.loads(b'"%s"' % text.encode()) == text


@pytest.mark.parametrize("first", ["A", "一"])
def test_a_run_of_plain_or_wide_text_may_be_broken_anywhere(serializer: Any, first: str) -> None:
    run = "".join(chr(ord(first) + i) for i in range(24)) * 2
    for other in ("a", "é", "漢", "😀", "\n", "\x01", '"', "\ud800", "\uffff", "\u0800", "\u07ff"):
        for n in range(40):
            for at in range(n):
                text = run[:at] + other + run[at:n]
                document = json.dumps(text, ensure_ascii=other == "\ud800").encode()
                assert serializer.loads(document) == text
                assert serializer.loads(serializer.dumps(text)) == text


def test_wide_text_cut_short_anywhere_is_refused(serializer: Any) -> None:
    document = b'{"key":"%s"}' % ("漢字😀é" + "字" * 40).encode()
    for end in range(len(document)):
        with pytest.raises(CodecError):
            serializer.loads(document[:end])


def test_escaped_surrogates_make_pairs_where_the_standard_library_sees_them(
    serializer: Any,
) -> None:
    parts = ("\\ud83d", "\\ude00", "😀", "漢", "a")
    for n in range(6):
        for some in itertools.product(parts, repeat=n):
            document = '"' + "".join(some) + '"'
            read = serializer.loads(document)
            assert read == json.loads(document)
            assert sys.getsizeof(read) == sys.getsizeof("".join([*read]))


def test_a_surrogate_may_stand_in_text_as_it_is(serializer: Any) -> None:
    for text in ('"\ud800"', '"\ud83d\ude00漢"', '"\ud83d\\ude00"', '"\\ud83d\ude00"'):
        assert serializer.loads(text) == json.loads(text)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_will_do(serializer: Any, kind: type[Any]) -> None:
    assert serializer.loads(kind(b'{"a":[1,"b"]}')) == {"a": [1, "b"]}
    assert serializer.loads(memoryview(b'x[1,"long enough"]x')[1:-1]) == [1, "long enough"]
    assert serializer.loads(memoryview(b"[ 1 , 2 ]xxxxxxxxx")[:9:1]) == [1, 2]


@pytest.mark.parametrize("base", [bytes, bytearray])
def test_the_bytes_of_a_subclass_are_those_that_it_holds(serializer: Any, base: type[Any]) -> None:
    class Lying(base):
        def __bytes__(self):
            return b"[2]"

    assert serializer.loads(Lying(b"[1]")) == [1]


def test_a_document_of_another_encoding_is_refused(serializer: Any) -> None:
    for encoding in ("utf-16", "utf-32", "utf-8-sig", "utf-16-le"):
        with pytest.raises(CodecError):
            serializer.loads('{"a":"b"}'.encode(encoding))


def test_of_a_repeated_key_the_last_value_and_the_first_place_count(serializer: Any) -> None:
    assert list(serializer.loads('{"a":1,"b":2,"a":3}').items()) == [("a", 3), ("b", 2)]


def test_a_document_cut_short_anywhere_is_refused(serializer: Any) -> None:
    import random

    rng = random.Random(1)
    for _ in range(25):
        document = serializer.dumps([fuzzing.value(rng)])
        for end in range(len(document)):
            with pytest.raises(CodecError):
                serializer.loads(document[:end])


@pytest.mark.both_arms
def test_both_arms_agree_on_every_flipped_bit() -> None:
    import random

    import comparing

    rng = random.Random(2)
    compiled, pure = comparing.Compiled(), comparing.Pure()
    for _ in range(100):
        document = compiled.dumps({"key": fuzzing.value(rng, 2)})[:150]
        for at in range(len(document)):
            for bit in range(8):
                damaged = bytearray(document)
                damaged[at] ^= 1 << bit
                found = fuzzing.outcome(compiled.loads, damaged)
                expected = fuzzing.outcome(pure.loads, damaged)
                assert found[0] is expected[0], damaged
                assert expected[0] or fuzzing.same(found[1], expected[1]), damaged


def test_whitespace_of_any_length_is_skipped(serializer: Any) -> None:
    for n in range(40):
        space = " \t\r\n" * n
        assert serializer.loads(
            f'{space}{{{space}"a"{space}:{space}[{space}1{space},{space}2{space}]{space}}}{space}'
        ) == {"a": [1, 2]}


def test_strings_of_every_length_and_place_of_an_escape(serializer: Any) -> None:
    for n in range(70):
        for filling in ("a", "é", "漢", "😀"):
            for special in ("", '"', "\\", "\n", "\x01", "\x7f"):
                for at in {0, n // 2, n}:
                    text = filling * at + special + filling * (n - at)
                    document = serializer.dumps({text: text})
                    assert json.loads(document) == {text: text}
                    assert serializer.loads(document) == {text: text}
                    assert serializer.loads(json.dumps(text)) == text


def test_floats_are_written_as_python_writes_them(serializer: Any) -> None:
    import random

    rng = random.Random(3)
    for _ in range(30_000):
        number = fuzzing.real(rng)
        assert serializer.dumps(number) == json.dumps(number).encode()
        whole, places, exponent = rng.randint(0, 22), rng.randint(0, 10**6), rng.randint(-40, 40)
        text = f"{rng.randint(0, 10**whole)}.{places}e{exponent}"
        assert repr(serializer.loads(text)) == repr(float(text))


def test_integers_are_written_as_python_writes_them(serializer: Any) -> None:
    for bits in range(0, 140):
        for number in (2**bits - 1, 2**bits, -(2**bits), 10 ** (bits // 4), 10 ** (bits // 4) - 1):
            assert serializer.dumps([number]) == b"[%d]" % number
            assert serializer.loads(b"[%d]" % number) == [number]
