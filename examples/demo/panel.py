"""The stored document as HTML: laid out for reading, with the type tags marked."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

WIDTH = 46

TYPES = {
    " t": "tuple",
    " b": "bytes",
    " m": "Markup",
    " u": "UUID",
    " d": "datetime",
    " di": "dict",
}


class Panel:
    """One record, as it was read from the backend."""

    def __init__(self, raw: str | bytes | None) -> None:
        self.raw = raw.decode() if isinstance(raw, bytes) else raw
        self.size = len(self.raw.encode()) if self.raw else 0
        self.html = layout(json.loads(self.raw)) if self.raw else Markup()

    @classmethod
    async def nothing(cls) -> Panel:
        return cls(None)


def layout(value: Any, room: int = WIDTH) -> Markup:
    """Indented JSON; whatever is short stays on one line."""
    match value:
        case dict() if value:
            opening, closing = "{}"
            parts = [key(name) + layout(item, room - 2) for name, item in value.items()]
        case list() if value:
            opening, closing = "[]"
            parts = [layout(item, room - 2) for item in value]
        case _:
            return leaf(value)
    if len(plain(value)) <= room:
        return Markup("{}{}{}").format(opening, Markup(", ").join(parts), closing)
    rows = [Markup('<span class="row">{},</span>').format(part) for part in parts[:-1]]
    rows.append(Markup('<span class="row">{}</span>').format(parts[-1]))
    return Markup("{}{}{}").format(opening, Markup().join(rows), closing)


def key(name: str) -> Markup:
    if name in TYPES:
        return Markup('<b class="tag">{}</b><i>{}</i>: ').format(plain(name), TYPES[name])
    return Markup('<span class="key">{}</span>: ').format(plain(name))


def leaf(value: Any) -> Markup:
    kind = "text" if isinstance(value, str) else "number"
    return Markup('<span class="{}">{}</span>').format(kind, plain(value))


def plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
