"""What docs/architecture.md says of the modules is so."""

import re
from pathlib import Path

import pytest
from modules import MODULES, imports

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\| files?\b.*\n\|-\|-\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
REQUEST, STORES, PURE_ARM, _ = [
    [re.findall(r"`(\w+)(?:\.py|/)?`", row.split("|")[1]) for row in table.splitlines()]
    for table in TABLES
]
OUTSIDE = {"", "testing"}
PURE = [name for name in MODULES if name.startswith("_pure.")]


def row_of(module, table):
    """The number of the row that has the module, or the folder that it is in."""
    [number] = [
        number
        for number, names in enumerate(table)
        if any(f"{module}.".startswith(f"{name}.") for name in names)
    ]
    return number


@pytest.mark.parametrize("module", sorted(MODULES.keys() - OUTSIDE))
def test_a_request_goes_from_top_to_bottom(module):
    for imported in imports(MODULES[module]):
        assert row_of(module, REQUEST) <= row_of(imported, REQUEST), imported


@pytest.mark.parametrize("module", PURE)
def test_the_pure_arm_goes_from_top_to_bottom(module):
    for imported in imports(MODULES[module]):
        if imported in PURE:
            above, below = module.removeprefix("_pure."), imported.removeprefix("_pure.")
            assert row_of(above, PURE_ARM) < row_of(below, PURE_ARM), imported


def test_the_files_of_stores_are_there():
    assert {f"stores.{name}" for names in STORES for name in names} <= MODULES.keys()
