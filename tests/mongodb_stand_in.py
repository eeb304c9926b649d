"""MongoDB's protocol over SQLite: nx-27017, made to tell dates and UUIDs from text.

It keeps documents as JSON, compares dates by whole seconds, turns some into text, and finds
nothing by a UUID. So both pass through it as text of a kind of its own, which sorts as dates do.
Run this as its program.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from bson import Binary
from bson.binary import UUID_SUBTYPE
from nx_27017 import wire_protocol
from nx_27017.nx_27017 import main

MOMENT = "a date: "
UNIQUE = "a UUID: "
EPOCH = datetime(1970, 1, 1)
OFFSET = 10**15  # milliseconds; no date of Python is before that


def to_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{MOMENT}{(value - EPOCH) // timedelta(milliseconds=1) + OFFSET:020}"
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE:
        return UNIQUE + bytes(value).hex()
    return within(value, to_text)


def from_text(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(MOMENT):
        milliseconds = int(value.removeprefix(MOMENT)) - OFFSET
        return EPOCH + timedelta(milliseconds=milliseconds)
    if isinstance(value, str) and value.startswith(UNIQUE):
        return Binary.from_uuid(UUID(value.removeprefix(UNIQUE)))
    return within(value, from_text)


def within(value: Any, convert: Any) -> Any:
    if isinstance(value, dict):
        return {key: convert(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(convert(item) for item in value)
    return value


parse = wire_protocol.OP_MSG.parse
wire_protocol.OP_MSG.parse = lambda message: to_text(parse(message))

build = wire_protocol.ResponseBuilder.build_op_msg_reply
wire_protocol.ResponseBuilder.build_op_msg_reply = lambda document, **rest: build(
    document=from_text(document), **rest
)

if __name__ == "__main__":
    main()
