"""Programs of the tests that run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

AS_NOBODY = """
if os.geteuid() == 0:  # whom modes do not stop
    os.setgroups([])
    os.setuid(65534)
"""


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start *program*, which sees what the tests see."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def killed(*processes: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill *processes* in the end, where they still run. The first one is given."""
    try:
        yield processes[0]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            with process:
                pass  # it has ended, and its pipes are closed


def output(*processes: subprocess.Popen[str]) -> str:
    """Wait for *processes*, of which each must succeed; return what the last one printed."""
    with killed(*processes):
        for process in processes:
            text, _ = process.communicate(timeout=60)
            assert process.returncode == 0, text
    return text.strip()
