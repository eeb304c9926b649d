"""Measure what a session costs a whole request: ``python benchmarks/whole_requests.py``.

The same application runs with this version, with 3.0.0 and with Quart's own sessions in cookies,
each in a process and an environment of its own. They take turns, so that whatever else the machine
does hits all of them, and of each the best round counts. It starts the Redis itself. With
``--write`` the table replaces the one in ``docs/stores.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/soak/compare")]

from compare import SUBJECTS, interpreter  # noqa: E402
from pages import replace_table  # noqa: E402
from servers import redis_server  # noqa: E402

KINDS = ["this version", "3.0.0", "Quart's cookies"]
ROWS = {
    "does not look at the session": "/plain 64 1",
    "reads it": "/read 64 1",
    "writes it": "/write 64 1",
    "64 at once do not look at it": "/plain 2 64",
    "64 at once read theirs": "/read 2 64",
    "64 at once write theirs": "/write 2 64",
}


def start(kind: str, port: int) -> subprocess.Popen[str]:
    name = kind if kind in SUBJECTS else "this version"
    return subprocess.Popen(
        [interpreter(name, SUBJECTS[name][1]), HERE / "one_application.py", kind, str(port)],
        env={**os.environ, "PYTHONPATH": str(ROOT) if name == "this version" else ""},
        cwd=tempfile.gettempdir(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def ask(application: subprocess.Popen[str], line: str) -> float:
    assert application.stdin is not None
    assert application.stdout is not None
    application.stdin.write(f"{line}\n")
    application.stdin.flush()
    return float(application.stdout.readline())


def measure(rounds: int) -> str:
    best: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        applications = {kind: start(kind, server.port) for kind in KINDS}
        for _ in range(rounds):
            for row, line in ROWS.items():
                for kind, application in applications.items():
                    cost = ask(application, line) * 1e6
                    best[row, kind] = min(cost, best.get((row, kind), cost))
        for application in applications.values():
            application.communicate(timeout=30)
    lines = ["| µs of CPU a request that | " + " | ".join(KINDS) + " |", "|-" * 4 + "|"]
    for row in ROWS:
        lines.append(f"| {row} | " + " | ".join(f"{best[row, kind]:.0f}" for kind in KINDS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/stores.md")
    arguments = parser.parse_args()
    measured = measure(arguments.rounds)
    print(measured)
    if arguments.write:
        replace_table(ROOT / "docs/stores.md", "whole requests", measured)


if __name__ == "__main__":
    main()
