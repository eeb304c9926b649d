"""No path leaks a reference, and a failed allocation is a MemoryError, never a crash."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("memory.py")


def run(*arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return finished.stdout


def test_no_error_path_drifts(arm: Any) -> None:
    """Counts blocks and references in a process of its own, where nothing else runs."""
    run("drift", arm.__name__, "--batches", "100", "--size", "100")


@pytest.mark.both_arms
def test_failed_allocations_are_memory_errors() -> None:
    pytest.importorskip("_testcapi", reason="this Python was built without its test modules")
    run("starve", "quart_session._speedups", "--sites", "60")


def test_a_value_with_an_error_is_freed(serializer: Any) -> None:
    class Text(str):
        pass

    gc.collect()
    value = Text("x")
    before = sys.getrefcount(value)
    for bad in ({"a": [value, object()]}, {value: {1: object()}}, ({value, object()},)):
        with pytest.raises(ValueError):
            serializer.dumps(bad)
        del bad
    gc.collect()
    assert sys.getrefcount(value) == before
