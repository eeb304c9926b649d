"""Measure the codec beside its peers: ``python benchmarks/table.py``.

Prints one table of ratios and, with ``--write``, puts it with a plot into ``docs/``. Each figure
is the median of many short rounds. Ours and the peer's take turns, so that whatever else the
machine does hits both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import itsdangerous
import payloads
from conftest import CODECS, plain_tree

from quart_session import _pure, _speedups

DOCS = Path(__file__).parents[1] / "docs"
Call = Callable[[], Any]


def once(call: Call, repeat: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, repeat):
        call()
    return (time.perf_counter() - start) / repeat


def side_by_side(calls: list[Call], rounds: int) -> list[float]:
    """The median seconds of each call."""
    repeats = []
    for call in calls:
        repeat = 1
        while once(call, repeat) * repeat < 3e-4:
            repeat *= 2
        repeats.append(repeat)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            times[i].append(once(call, repeats[i]))
    return [statistics.median(column) for column in times]


def bound(function: Callable[[Any], Any], argument: Any) -> Call:
    return lambda: function(argument)


def codec_times(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds by direction and codec for one payload."""
    value = payloads.PAYLOADS[name]()
    tree = plain_tree(value)
    encoders, decoders = [], []
    for encode, decode, typed in CODECS.values():
        encoders.append(bound(encode, value if typed else tree))
        decoders.append(bound(decode, encode(value if typed else tree)))
    found = {
        "encode": dict(zip(CODECS, side_by_side(encoders, rounds), strict=True)),
        "decode": dict(zip(CODECS, side_by_side(decoders, rounds), strict=True)),
    }
    if name == "cjk":
        found["encode"].update(cold_text(tree, rounds))
    return found


def cold_text(tree: Any, rounds: int) -> dict[str, float]:
    """Encoding of text in which no encoder has left its UTF-8 yet."""
    source = json.dumps(tree)
    found = {}
    for codec in ("compiled", "orjson"):
        encode = CODECS[codec][0]
        times = []
        for _ in range(4 * rounds):
            fresh = json.loads(source)
            start = time.perf_counter()
            encode(fresh)
            times.append(time.perf_counter() - start)
        found[f"{codec} cold"] = statistics.median(times)
    return found


def varied_times(rounds: int) -> dict[str, float]:
    sessions = payloads.varied()
    calls = []
    for encode, decode, typed in CODECS.values():
        documents = [encode(s if typed else plain_tree(s)) for s in sessions]
        calls.append(lambda decode=decode, documents=documents: [*map(decode, documents)])
    medians = side_by_side(calls, max(5, rounds // 10))
    return {codec: t / len(sessions) for codec, t in zip(CODECS, medians, strict=True)}


def sid_times(rounds: int) -> list[tuple[str, float, float, float]]:
    """What is done, and the seconds of the compiled arm, the pure one and the peer."""
    signer = itsdangerous.Signer("key", salt="quart-session", key_derivation="hmac")
    sid = _pure.new_sid()
    signed = _pure.sign_sid(sid, "key")
    fullmatch = re.compile("[A-Za-z0-9_-]{43}").fullmatch
    rows: list[tuple[str, Callable[[Any], Call], Call]] = [
        (
            "new id, beside secrets.token_urlsafe",
            lambda arm: arm.new_sid,
            lambda: secrets.token_urlsafe(32),
        ),
        (
            "check, beside a regular expression",
            lambda arm: bound(arm.is_sid, sid),
            bound(fullmatch, sid),
        ),
        (
            "sign, beside itsdangerous",
            lambda arm: lambda: arm.sign_sid(sid, "key"),
            bound(signer.sign, sid),
        ),
        (
            "verify, beside itsdangerous",
            lambda arm: lambda: arm.unsign_sid(signed, ["key"]),
            bound(signer.unsign, signed),
        ),
    ]
    found = []
    for what, ours, peer in rows:
        compiled, pure, other = side_by_side([ours(_speedups), ours(_pure), peer], rounds)
        found.append((what, compiled, pure, other))
    return found


def table(times: dict[str, Any], varied: dict[str, float], sids: list[Any]) -> str:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [row(["", *times]), row(["-"] * (len(times) + 1))]
    for direction in ("encode", "decode"):
        for codec in ("compiled", "pure"):
            ratios = [t[direction]["flask"] / t[direction][codec] for t in times.values()]
            lines.append(
                row(
                    [
                        f"{direction}: {codec}, times faster than Flask",
                        *(f"{r:.1f}" for r in ratios),
                    ]
                )
            )
        for peer in ("orjson", "msgspec-json", "msgspec-msgpack", "json", "pickle"):
            ratios = [t[direction]["compiled"] / t[direction][peer] for t in times.values()]
            lines.append(row([f"{direction}: time ÷ {peer}", *(f"{r:.2f}" for r in ratios)]))
        compiled = [f"{t[direction]['compiled'] * 1e6:.2f}" for t in times.values()]
        lines.append(row([f"{direction}: compiled, µs", *compiled]))
    cold = times["cjk"]["encode"]
    lines += [
        "",
        f"Encoding the cjk payload from strings in which no UTF-8 is cached takes "
        f"{cold['compiled cold'] / cold['orjson cold']:.2f} of the time of orjson.",
        f"Decoding 300 varied sessions one after the other takes {varied['compiled'] * 1e6:.2f} µs "
        f"each, {varied['flask'] / varied['compiled']:.1f} times faster than Flask and "
        f"{varied['compiled'] / varied['orjson']:.2f} of the time of orjson.",
        "",
        row(["session ids", "compiled, ns", "pure, ns", "peer, ns"]),
        row(["-"] * 4),
        *(row([what, *(f"{t * 1e9:.0f}" for t in rest)]) for what, *rest in sids),
    ]
    return "\n".join(lines)


def plot(times: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    shown = ("compiled", "pure", "orjson", "flask")
    for axis, direction in zip(axes, ("encode", "decode"), strict=True):
        for i, codec in enumerate(shown):
            heights = [t[direction]["flask"] / t[direction][codec] for t in times.values()]
            axis.bar([x + 0.2 * i for x in range(len(times))], heights, 0.2, label=codec)
        axis.set_xticks([x + 0.3 for x in range(len(times))], [*times])
        axis.set_yscale("log")
        axis.set_title(direction)
    axes[0].set_ylabel("times faster than Flask")
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/")
    parser.add_argument("--rounds", type=int, default=150)
    options = parser.parse_args()
    times = {name: codec_times(name, options.rounds) for name in payloads.PAYLOADS}
    varied = varied_times(options.rounds)
    text = table(times, varied, sid_times(options.rounds))
    print(text)
    if options.write:
        plot(times, DOCS / "benchmarks.svg")
        (DOCS / "benchmarks.md").write_text(
            "# Benchmarks\n\n"
            f"CPython {platform.python_version()} on {platform.machine()}, {platform.system()}. "
            "Written by `make bench`. Flask, pickle and this codec get the session itself; the "
            "peers that know no types get it already tagged, and rebuild no type.\n\n"
            f"{text}\n\n![Times faster than Flask](benchmarks.svg)\n"
        )


if __name__ == "__main__":
    main()
