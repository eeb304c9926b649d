"""One benchmark for each codec, payload and direction."""

from __future__ import annotations

import json
from typing import Any

import payloads
from conftest import Codec, plain_tree


def test_encode(benchmark: Any, codec: Codec, payload: Any) -> None:
    encode, _, typed = codec
    benchmark.group = "encode"
    benchmark(encode, payload if typed else plain_tree(payload))


def test_decode(benchmark: Any, codec: Codec, payload: Any) -> None:
    encode, decode, typed = codec
    benchmark.group = "decode"
    benchmark(decode, encode(payload if typed else plain_tree(payload)))


def test_encode_cold_text(benchmark: Any, codec: Codec) -> None:
    """Text that no encoder has left its UTF-8 in, as it comes from a form or a database."""
    encode = codec[0]
    source = json.dumps(payloads.cjk())
    benchmark.group = "encode cold text"
    benchmark.pedantic(encode, setup=lambda: ((json.loads(source),), {}), rounds=300)


def test_decode_varied(benchmark: Any, codec: Codec) -> None:
    """Sessions of 300 users, one after the other."""
    encode, decode, typed = codec
    documents = [encode(s if typed else plain_tree(s)) for s in payloads.varied()]

    def decode_all() -> None:
        for document in documents:
            decode(document)

    benchmark.group = "decode varied"
    benchmark(decode_all)
