"""Clients that write sessions as fast as they can, and know what must be in them.

Run as a program it is one of several processes: it reads its orders as a line of JSON, says when it
is ready, begins when it is told to and prints what its clients did.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from functools import partial
from typing import Any

import anyio
from quart import Quart, Response

from quart_session import Session, SessionConflict
from quart_session.testing import gather

LIST = 5
"""So many of its numbers a client leaves in its list."""

SHARED = 8
"""Keys that every client writes."""


def make_app(config: dict[str, Any]) -> Quart:
    app = Quart("soaking", instance_path=config["INSTANCE_PATH"])
    app.config.update(config)
    app.secret_key = "a secret key of the tests"
    Session(app)
    return app


class Browser:
    """Opens and saves one session as requests do, without the work of routing and rendering."""

    def __init__(self, app: Quart, sid: str | None = None) -> None:
        headers = {"Cookie": f"session={sid}"} if sid else {}
        self.app = app
        self.interface: Any = app.session_interface
        self.request = app.test_request_context("/", headers=headers).request

    async def open(self) -> Any:
        return await self.interface.open_session(self.app, self.request)

    async def save(self, session: Any) -> None:
        await self.interface.save_session(self.app, session, Response())


class Soak:
    """The clients of one process.

    :param sids: the sessions they write; each client takes any of them, time after time.
    :param seconds: when they stop at the latest.
    :param operations: how many they make together, each a load and a save.
    """

    def __init__(
        self,
        config: dict[str, Any],
        process: int,
        sids: list[str],
        clients: int,
        operations: int,
        seconds: float,
    ) -> None:
        self.app = make_app(config)
        self.process, self.clients = process, clients
        self.browsers = [Browser(self.app, sid) for sid in sids]
        self.operations, self.seconds = operations, seconds
        self.begun = 0
        self.refused = 0
        self.counts: list[Counter[str]] = [Counter() for _ in sids]
        """What must be in each session: how often each client wrote it."""
        self.wrong: list[str] = []

    async def run(self) -> dict[str, Any]:
        started = time.monotonic()
        self.end = started + self.seconds
        await gather(partial(self.client, f"{self.process}-{n}") for n in range(self.clients))
        await self.app.session_interface.close()
        return {
            "counts": self.counts,
            "wrong": self.wrong[:10],
            "refused": self.refused,
            "seconds": time.monotonic() - started,
        }

    async def client(self, name: str) -> None:
        dice = random.Random(name)
        while self.begun < self.operations and time.monotonic() < self.end:
            self.begun += 1
            number = dice.randrange(len(self.browsers))
            if await self.write(self.browsers[number], self.counts[number][name], name):
                self.counts[number][name] += 1
            else:
                self.begun -= 1
                self.refused += 1

    async def write(self, browser: Browser, before: int, name: str) -> bool:
        """Count one up in the client's own key and list; False if the save was refused."""
        session = await browser.open()
        if not session.available or session.get(f"count {name}", 0) != before:
            self.wrong.append(f"{name}: {session.get(f'count {name}')} is there, not {before}")
        session[f"count {name}"] = before + 1
        numbers = session.setdefault(f"list {name}", [])
        numbers.append(before + 1)  # a change in place, the second time and ever after
        del numbers[:-LIST]
        session[f"shared {before % SHARED}"] = {"by": name, "number": before + 1}
        try:
            await browser.save(session)
        except SessionConflict:
            return False
        return True


async def main() -> None:
    soak = Soak(**json.loads(sys.stdin.readline()))
    # Takes what takes time the first time: the connection, the file.
    await soak.browsers[0].open()
    print("ready", flush=True)
    assert sys.stdin.readline() == "go\n"
    print(json.dumps(await soak.run()), flush=True)


if __name__ == "__main__":
    anyio.run(main)
