"""Look for leaks and for crashes without memory: ``python tests/hotpath/memory.py drift ARM``."""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import importlib
import random
import sys
from typing import Any

import fuzzing

from quart_session._pure import decoding, encoding
from quart_session.errors import CodecError
from quart_session.serializer import SerializerMethods


class Raising:
    def __html__(self) -> str:
        raise LookupError


def cases(serializer: Any, count: int) -> list[tuple[Any, Any]]:
    """Calls on every kind of value, document and error: a function and its argument."""
    rng = random.Random(7)
    # Some Pythons lose references in their own code for zones.
    fuzzing.ZONES = fuzzing.ZONES[:3]
    made: list[tuple[Any, Any]] = []
    changing: dict[str, Any] = {}
    for foreign in (object(), Raising(), 1j, 10**4400, {1, object()}, {object(): 1}, {1: object()}):
        for value in (foreign, [foreign], ({"k": [1, {"x": foreign}]},), {" t": foreign}):
            made.append((serializer.dumps, value))
    while len(made) < count:
        value = fuzzing.value(rng, 4, foreign=0.05)
        made.append((serializer.dumps, value))
        with contextlib.suppress(CodecError):
            document = serializer.dumps(value)
            made.append((serializer.loads, document))
            for _ in range(4):
                made.append((serializer.loads, fuzzing.mutate(rng, document)))
    made.append((serializer.loads, b"[" * 800))
    deep: Any = 1
    for _ in range(800):
        deep = [deep]
    made += [(serializer.dumps, deep), (serializer.dumps, changing)]
    return made


def call(case: tuple[Any, Any]) -> None:
    with contextlib.suppress(CodecError):
        case[0](case[1])


REPEATS = 5


def drift(serializer: Any, batches: int, size: int) -> None:
    """After a warm-up, the same calls again must leave as many blocks of memory as before."""
    calls = cases(serializer, size)
    counts = array.array("q")  # a list of new integers would be a drift of its own
    for _ in range(batches + 3):
        for _ in range(REPEATS):
            for case in calls:
                call(case)
        gc.collect()
        counts.append(sys.getallocatedblocks())
    # Caches of the interpreter and of the standard library go on filling for a while, ever more
    # slowly. A reference lost by one of the calls would add as many blocks as there are repeats.
    late = counts[2 * len(counts) // 3 :]
    growth = (late[-1] - late[0]) / (len(late) - 1)
    print(f"{batches} batches of {len(calls)} calls: {growth:+.2f} blocks a batch in the end")
    if growth > REPEATS - 1:
        raise SystemExit(f"drift: {counts.tolist()}")


def starved(function: Any, argument: Any, site: int) -> bool:
    """Whether the call failed when the allocation number *site* did."""
    import _testcapi

    try:
        try:
            _testcapi.set_nomemory(site, site + 1)
            function(argument)
        finally:
            _testcapi.remove_mem_hooks()
    except (MemoryError, CodecError, SystemError):
        return True
    return False


def rendered(tree: Any, full: bool) -> bytes:
    return b"[%s0]" % (b"0," * 50_000)


def starve(serializer: Any, sites: int) -> None:
    """Let each of the first allocations of a call fail, one after the other.

    CPython itself crashes without memory in some Python code, among it the standard library's
    encoder, and so does orjson. So the pure arm, when asked, has something simpler here.
    """
    encoding.orjson = decoding.orjson = None
    encoding.render = rendered
    value = {
        "text": ["x" * 70_000, "漢" * 20_000, "é\n" * 30_000],
        "plain": [1, 2**80, 0.1 + 0.2, None, {"a": {}, "b": []}],
        "tags": [(1, b"b" * 99), fuzzing.uuid.UUID(int=5), fuzzing.Markup("m")],
        "moments": [fuzzing.datetime(2024, 5, 1), fuzzing.datetime(2024, 5, 1, 1, 2, 3, 4)],
        "rare": [fuzzing.Point(1, 2)],
        "deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
        "many": list(range(3000)),
    }
    document = serializer.dumps(value)
    values = [value, *([part] for part in value.values()), [object()]]
    documents = [document, *(serializer.dumps(part) for part in value.values()), b'["\\u00e9"]']
    hungry = 0
    for function, arguments in ((serializer.dumps, values), (serializer.loads, documents)):
        for argument in arguments:
            for site in range(sites):
                hungry += starved(function, argument, site)
    expected = serializer.loads(document)
    assert serializer.dumps(expected) == serializer.dumps(
        serializer.loads(serializer.dumps(expected))
    )
    print(
        f"{hungry} calls failed cleanly, at {sites} sites of {len(values) + len(documents)} calls"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["drift", "starve"])
    parser.add_argument("arm", nargs="?", default="quart_session._speedups")
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--sites", type=int, default=200)
    options = parser.parse_args()
    codec = importlib.import_module(options.arm).Codec
    serializer = type("TaggedJSONSerializer", (SerializerMethods, codec), {})()
    if options.what == "drift":
        drift(serializer, options.batches, options.size)
    else:
        starve(serializer, options.sites)


if __name__ == "__main__":
    main()
