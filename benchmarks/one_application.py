"""One application with sessions in Redis, whose requests are measured as it is told on stdin.

Runs in an environment of its own: with this version, with 3.0.0, or with Quart alone, whose
sessions are cookies. Each line is "<route> <times> <at once>"; the answer is the processor time of
this process, in seconds for each request.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from quart import Quart, session


def make_app(kind: str, port: str) -> Quart:
    app = Quart(__name__)
    app.secret_key = "a secret key of the benchmark"
    if kind != "Quart's cookies":
        from quart_session import Session

        app.config["SESSION_TYPE"] = "redis"
        app.config["SESSION_URI"] = f"redis://127.0.0.1:{port}"
        Session(app)

    @app.get("/login")
    async def login() -> str:
        session["user"] = {"id": 1815, "name": "Ada Lovelace", "roles": ["editor", "admin"]}
        session["cart"] = [{"item": "tea", "price": 420, "size": (10, 20)} for _ in range(5)]
        return "logged in"

    @app.get("/plain")
    async def plain() -> str:
        return "fine"

    @app.get("/read")
    async def read() -> str:
        return str(session["user"]["name"])

    @app.get("/write")
    async def write() -> str:
        session["visits"] = session.get("visits", 0) + 1
        return "counted"

    return app


async def visit(app: Quart, path: str, cookie: str) -> str:
    """Send one GET straight to the application; the ``Set-Cookie`` of its answer."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    }
    events = [{"type": "http.request", "body": b"", "more_body": False}]
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop()
        await asyncio.Event().wait()  # the browser stays
        raise AssertionError

    async def send(event: dict[str, Any]) -> None:
        answers.append(event)

    await app(scope, receive, send)  # type: ignore[arg-type]
    assert answers[0]["status"] == 200, answers
    headers = dict(answers[0]["headers"])
    return headers.get(b"set-cookie", b"").decode().partition(";")[0]


async def main(kind: str, port: str) -> None:
    app = make_app(kind, port)
    async with app.test_app():
        logins = [await visit(app, "/login", "") for _ in range(64)]
        for line in iter(sys.stdin.readline, ""):
            path, times, at_once = line.split()
            cookies = logins[: int(at_once)]
            since = time.process_time()
            for _ in range(int(times)):
                await asyncio.gather(*[visit(app, path, cookie) for cookie in cookies])
            spent = time.process_time() - since
            print(spent / int(times) / len(cookies), flush=True)


asyncio.run(main(*sys.argv[1:]))
os._exit(0)  # 3.0.0 leaves its connections to the interpreter, which complains
