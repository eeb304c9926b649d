"""Programs of the tests that run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

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


def output(process: subprocess.Popen[str]) -> str:
    """Wait for *process* and return what it printed."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    return text.strip()
