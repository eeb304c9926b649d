"""The codecs and payloads that the benchmarks run on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import payloads
import pytest
from flask.json.tag import TaggedJSONSerializer as FlaskSerializer

from quart_session import _pure, _speedups
from quart_session.serializer import SerializerMethods


class Compiled(SerializerMethods, _speedups.Codec):
    pass


class Pure(SerializerMethods, _pure.Codec):
    pass


def plain_tree(value: Any) -> Any:
    """*value* already tagged, as the peers that know no types get it."""
    return json.loads(Compiled().dumps(value))


Codec = tuple[Callable[[Any], Any], Callable[[Any], Any], bool]

#: How each codec encodes and decodes, and whether it gets the value or its tagged tree.
CODECS: dict[str, Codec] = {
    "compiled": (Compiled().dumps, Compiled().loads, True),
    "pure": (Pure().dumps, Pure().loads, True),
    "flask": (FlaskSerializer().dumps, FlaskSerializer().loads, True),
    "pickle": (lambda value: pickle.dumps(value, protocol=5), pickle.loads, True),
    "orjson": (orjson.dumps, orjson.loads, False),
    "json": (json.dumps, json.loads, False),
    "msgspec-json": (msgspec.json.encode, msgspec.json.decode, False),
    "msgspec-msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode, False),
}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]


@pytest.fixture(params=payloads.PAYLOADS)
def payload(request: pytest.FixtureRequest) -> Any:
    return payloads.PAYLOADS[request.param]()
