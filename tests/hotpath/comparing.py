"""The arms side by side, and beside Flask's serializer."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import flask.json.tag
import fuzzing

from quart_session import _pure, _speedups
from quart_session._pure.tags import DATETIME
from quart_session._pure.text import nests_too_deep
from quart_session.errors import CodecError
from quart_session.serializer import SerializerMethods


class Compiled(SerializerMethods, _speedups.Codec):
    pass


class Pure(SerializerMethods, _pure.Codec):
    pass


FLASK = flask.json.tag.TaggedJSONSerializer()


def check_encoding(rng: random.Random, cases: int) -> Counter[str]:
    """Both arms write the same bytes or raise the same error, in both modes."""
    compiled, pure = Compiled(), Pure()
    compiled_flask, pure_flask = Compiled("flask"), Pure("flask")
    counts: Counter[str] = Counter()
    for _ in range(cases):
        value = fuzzing.value(rng, rng.randint(0, 4), foreign=0.02)
        expected = fuzzing.outcome(pure.dumps, value)
        assert fuzzing.outcome(compiled.dumps, value) == expected, value
        assert expected[0] in (None, CodecError), value
        counts["written" if expected[0] is None else "refused"] += 1
        if rng.random() < 0.2:
            expected = fuzzing.outcome(pure_flask.dumps, value)
            assert fuzzing.outcome(compiled_flask.dumps, value) == expected, value
            counts["in Flask's tags"] += 1
    return counts


def check_reading(rng: random.Random, cases: int) -> Counter[str]:
    """Both arms read the same value or raise the same class of error, of damaged documents too."""
    compiled, pure = Compiled(), Pure()
    counts: Counter[str] = Counter()
    documents = [b"{}"]
    while sum(counts.values()) < cases:
        if rng.random() < 0.05:
            value = fuzzing.value(rng, rng.randint(0, 3))
            documents = [compiled.dumps(value)]
            if rng.random() < 0.3:
                documents = [json.dumps(json.loads(documents[0]), indent=1).encode()]
        document = rng.choice(documents)
        if rng.random() < 0.9:
            document = fuzzing.mutate(rng, document)
            if rng.random() < 0.3:
                documents.append(document)
        given: Any = document
        if rng.random() < 0.2:
            given = (
                document.decode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")
                if _decodes(document)
                else document.decode("latin-1")
            )
        expected = fuzzing.outcome(pure.loads, given)
        found = fuzzing.outcome(compiled.loads, given)
        assert found[0] is expected[0], (given, found, expected)
        if expected[0] is None:
            assert fuzzing.same(found[1], expected[1]), (given, found, expected)
            counts["read"] += 1
        else:
            assert expected[0] is CodecError, (given, expected)
            counts["refused"] += 1
    return counts


def _decodes(document: bytes) -> bool:
    try:
        document.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _within_flask(value: Any) -> bool:
    """Whether Flask's tags hold *value* without loss."""
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and (
            not (len(value) == 1 and next(iter(value)).startswith(" q:"))
            and all(map(_within_flask, value.values()))
        )
    if isinstance(value, (list, tuple)):
        return all(map(_within_flask, value))
    if isinstance(value, fuzzing.datetime):
        return DATETIME.holds(value)
    return not isinstance(value, fuzzing.BEYOND_FLASK)


def check_flask_reads(rng: random.Random, cases: int) -> Counter[str]:
    """Flask reads what either arm writes, both read what Flask writes, and mode "flask" writes
    what Flask writes."""
    counts: Counter[str] = Counter()
    arms = [(arm(), arm("flask")) for arm in (Compiled, Pure)]
    for _ in range(cases):
        value = fuzzing.value(rng, rng.randint(0, 4), foreign=0.001)
        try:
            flasks = FLASK.dumps(value)
        except Exception:
            for _, flask_mode in arms:
                assert fuzzing.outcome(flask_mode.dumps, value)[0] is CodecError, value
            counts["refused by Flask"] += 1
            continue
        for _, flask_mode in arms:
            assert flask_mode.dumps(value) == flasks.encode("ascii"), value
        within = _within_flask(value)
        counts["within Flask" if within else "beyond Flask"] += 1
        if within:
            expected = FLASK.loads(flasks)
            for full, _ in arms:
                assert fuzzing.same(full.loads(flasks), expected), value
                assert fuzzing.same(FLASK.loads(full.dumps(value).decode()), expected), value
    return counts


def check_reading_like_flask(rng: random.Random, cases: int) -> Counter[str]:
    """Damaged documents without new tags give what Flask gives, or CodecError where it raises."""
    counts: Counter[str] = Counter()
    compiled, pure = Compiled(), Pure()
    documents = ["{}"]
    while sum(counts.values()) < cases:
        if rng.random() < 0.05:
            try:
                documents = [FLASK.dumps(fuzzing.value(rng, rng.randint(0, 3)))]
            except Exception:
                continue
        text = rng.choice(documents)
        if rng.random() < 0.95:
            damaged = fuzzing.mutate(rng, text.encode("utf-8", "surrogatepass"))
            if not _decodes(damaged):
                continue
            text = damaged.decode("utf-8", "surrogatepass")
            if rng.random() < 0.3:
                documents.append(text)
        if '" q:' in text or nests_too_deep(text):
            continue
        expected = fuzzing.outcome(FLASK.loads, text)
        for arm in (compiled, pure):
            found = fuzzing.outcome(arm.loads, text)
            if expected[0] is None:
                assert found[0] is None, (text, found, expected)
                assert fuzzing.same(found[1], expected[1]), (text, found, expected)
            else:
                assert found[0] is CodecError, (text, found, expected)
        counts["read" if expected[0] is None else "refused"] += 1
    return counts


def check_survival(rng: random.Random, cases: int) -> Counter[str]:
    """Damaged documents are read or refused by the compiled arm. For runs with a sanitizer."""
    counts: Counter[str] = Counter()
    loads, dumps = Compiled().loads, Compiled().dumps
    document = b"{}"
    for i in range(cases):
        if i % 50 == 0:
            document = dumps(fuzzing.value(rng, rng.randint(0, 3)))
        try:
            loads(fuzzing.mutate(rng, document))
            counts["read"] += 1
        except CodecError:
            counts["refused"] += 1
    return counts
