"""The programs that are compared, in every order in which their requests can load and save."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

# What each request does: write a key of its own, append to a list of its own in place, read,
# or log out.
LOST = [("write", "write"), ("write", "read"), ("write", "write", "write")]
IN_PLACE = [("write", "append"), ("append", "append"), ("write", "write", "append")]
RESURRECTED = [("write", "logout"), ("append", "logout"), ("read", "logout")]
RESURRECTED += [("write", "read", "logout")]


def schedules(requests: int) -> Iterator[list[int]]:
    """Every order of 'the first time a number occurs it loads, the second time it saves'."""

    def extend(done: list[int]) -> Iterator[list[int]]:
        if len(done) == 2 * requests:
            yield done
        for number in range(requests):
            if done.count(number) < 2:
                yield from extend([*done, number])

    return extend([])


def act(session, number: int, what: str) -> None:
    """What the view of request *number* does to the session; the same in all packages."""
    match what:
        case "write":
            session[f"key {number}"] = "written"
        case "append":
            session[f"list {number}"].append("appended")
            session.modified = True  # as the others ask for it
        case "read":
            session.get("user")
        case "logout":
            session.clear()


START = {"user": "ada", "list 0": [], "list 1": [], "list 2": []}


def is_lost(program: tuple[str, ...], seen: dict) -> bool:
    for number, what in enumerate(program):
        if what == "write" and seen.get(f"key {number}") != "written":
            return True
        if what == "append" and seen.get(f"list {number}") != ["appended"]:
            return True
    return False


def is_back(program: tuple[str, ...], seen: dict) -> bool:
    return bool(seen.get("user"))


def share(bad: int, total: int) -> str:
    return f"{100 * bad / total:.0f} % of {total}"


def say(row: str, result: str) -> None:
    print(json.dumps({"row": row, "result": result}), flush=True)


def ask(what: str) -> None:
    """Have something done to the server."""
    print(json.dumps({"do": what}), flush=True)
    assert sys.stdin.readline() == "done\n"


def answer(status: int | None, text: str, seconds: float) -> str:
    """One cell about an answer in an outage."""
    if status is None:
        return f"no answer in {seconds:.0f} s"
    meaning = {"ada": "", "None": ", empty session"}.get(text if status == 200 else "", "")
    return f"{status}{meaning} after {seconds:.1f} s"
