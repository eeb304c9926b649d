"""The golden vectors of the format: ``tests/vectors/vectors.json``, for every implementation.

Each vector has a value as a Python expression, the document that is written for it, and whether
Flask's serializer reads an equal value from that document. Documents under "foreign" are read, but
never written; those under "refused" are errors.
"""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import fuzzing
import pytest
from flask.json.tag import TaggedJSONSerializer as FlaskSerializer
from markupsafe import Markup

from quart_session._pure.registry import Registry
from quart_session.errors import CodecError

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/vectors.json").read_text())
NAMES = {
    **{
        name: getattr(datetime, name)
        for name in ["date", "datetime", "time", "timedelta", "timezone"]
    },
    "Decimal": Decimal,
    "Markup": Markup,
    "UUID": UUID,
    "ZoneInfo": ZoneInfo,
}


@pytest.mark.parametrize("vector", VECTORS["read"], ids=lambda vector: vector["name"])
def test_a_value_and_its_document_stand_for_each_other(serializer: Any, vector: Any) -> None:
    value = eval(vector["python"], NAMES)
    assert serializer.dumps(value) == vector["document"].encode()
    assert fuzzing.same(serializer.loads(vector["document"]), value)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS["read"] if vector["flask"]],
    ids=lambda vector: vector["name"],
)
def test_flask_reads_the_document(vector: Any) -> None:
    value = eval(vector["python"], NAMES)
    assert fuzzing.same(FlaskSerializer().loads(vector["document"]), value)


@pytest.mark.parametrize("vector", VECTORS["foreign"], ids=lambda vector: vector["name"])
def test_a_foreign_document_is_read(serializer: Any, vector: Any) -> None:
    value = eval(vector["python"], NAMES)
    assert fuzzing.same(serializer.loads(vector["document"]), value)
    assert serializer.dumps(value) != vector["document"].encode()


@pytest.mark.parametrize("document", VECTORS["refused"])
def test_what_is_no_document_is_refused(serializer: Any, document: str) -> None:
    with pytest.raises(CodecError):
        serializer.loads(document)


def test_every_tag_has_a_vector() -> None:
    documents = " ".join(vector["document"] for vector in VECTORS["read"])
    for key in Registry(full=True).tags:
        assert f'{{"{key}":' in documents
