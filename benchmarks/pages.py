"""Pages of ``docs/`` that hold what was measured."""

from __future__ import annotations

import re
from pathlib import Path


def replace_table(page: Path, name: str, table: str) -> None:
    """Put *table* into *page*, between the comments ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8")
    between = re.compile(f"{begin}.*?{end}", re.DOTALL)
    page.write_text(between.sub(f"{begin}\n{table}\n{end}", text), encoding="utf-8")


def replace_rows(page: Path, rows: list[str]) -> None:
    """Put each of *rows* into *page* in place of the row that begins with the same cell."""
    text = page.read_text(encoding="utf-8")
    for row in rows:
        name = row.split("|")[1]
        text = re.sub(rf"^\|{re.escape(name)}\|.*$", row, text, flags=re.MULTILINE)
    page.write_text(text, encoding="utf-8")
