"""Compare what concurrent requests, outages and disconnects do here and in other packages.

    python tests/soak/compare/compare.py

makes an environment for each package, runs the same tests in all of them on a real Redis, and
prints the table of docs/concurrency.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]
ROOT = TESTS.parent
CACHE = Path(os.environ.get("COMPARE_CACHE", Path(tempfile.gettempdir(), "quart-session-compare")))

sys.path.insert(0, str(TESTS))

from servers import RedisServer, redis_server  # noqa: E402

SUBJECTS = {
    "this version": ("quart_subject.py", [f"{ROOT}[redis]"]),
    "3.0.0": ("quart_subject.py", ["quart-session==3.0.0", "quart==0.22.0", "redis==8.1.0"]),
    "Flask-Session 0.8": (
        "flask_subject.py",
        ["flask-session==0.8.0", "flask==3.1.3", "redis==8.1.0", "cachelib", "msgspec"],
    ),
}

ROWS = {
    "lost": "Two or three requests write different keys: schedules that lose one",
    "changed in place": "The same, one of them appends to a list in place",
    "resurrected": "A request runs beside a logout: schedules that bring the session back",
    "refused, session": "Redis refuses connections: a request that reads the session",
    "refused, plain": "— one that does not",
    "silent, session": "Redis is silent: a request that reads the session",
    "silent, plain": "— one that does not",
    "silent, 64": "— the slowest of 64 at once",
    "disconnects": "Requests cancelled at any point: wrong answers to the next 1,000",
}


def interpreter(name: str, packages: list[str]) -> Path:
    """Of an environment that has *packages*, made once."""
    if name == "this version" and os.environ.get("COMPARE_PYTHON"):
        return Path(os.environ["COMPARE_PYTHON"])
    folder = CACHE / name.replace(" ", "-")
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True)
        complete.touch()
    return python


def measure(name: str, server: RedisServer) -> dict[str, str]:
    program, packages = SUBJECTS[name]
    path = os.pathsep.join([str(ROOT)] if name == "this version" else [])
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [interpreter(name, packages), HERE / program, str(server.port)],
            env={**os.environ, "PYTHONPATH": path},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        results: dict[str, str] = {}
        for line in process.stdout:  # the subject asks for what it needs done to the server
            match json.loads(line):
                case {"do": "stop"}:
                    server.stop(kill=True)
                case {"do": "start"}:
                    server.start()
                case {"do": "freeze"}:
                    server.freeze()
                case {"do": "thaw"}:
                    server.thaw()
                case {"row": row, "result": result}:
                    results[row] = result
                    continue
            process.stdin.write("done\n")
            process.stdin.flush()
        if process.wait(60):
            raise RuntimeError(f"{name} failed")
        return results


def main() -> None:
    results: dict[str, Any] = {}
    for name in SUBJECTS:
        with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
            results[name] = measure(name, server)
    print("| |", " | ".join(SUBJECTS), "|")
    print("|---|", "|".join("---" for _ in SUBJECTS), "|", sep="")
    for row, title in ROWS.items():
        print(f"| {title} |", " | ".join(results[name].get(row, "n/a") for name in SUBJECTS), "|")


if __name__ == "__main__":
    main()
