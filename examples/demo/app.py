"""A small shop whose sessions live on the server, and a look at what is stored there.

    python examples/demo/app.py

The environment chooses: SESSION_TYPE (sqlite, redis, memory, ...), SESSION_URI,
SESSION_SQLITE_PATH, PORT.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from hypercorn.asyncio import serve
from hypercorn.config import Config
from markupsafe import Markup
from panel import Panel
from quart import Quart, Response, redirect, request, session, stream_template, url_for
from quart.typing import ResponseReturnValue

import quart_session

SUGGESTIONS = ("Espresso beans", "Oat milk", "Blue teapot")
LONGEST = 40
MOST_LINES = 8

app = Quart(__name__, instance_path=str(Path(__file__).resolve().parent / "instance"))
app.config["SESSION_TYPE"] = "sqlite"
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
for key in ("SESSION_TYPE", "SESSION_URI", "SESSION_SQLITE_PATH"):
    if os.environ.get(key):
        app.config[key] = os.environ[key]
quart_session.Session(app)


@app.get("/")
async def page() -> Response:
    if not session:  # a visitor without a session is not given one by looking around
        return await show(Panel.nothing)

    session["visits"] = session.get("visits", 0) + 1
    return await show(
        partial(read_record, session.sid),  # type: ignore[attr-defined]
        name=session.get("name"),
        greeting=session.get("greeting"),
        avatar=drawing(session.get("avatar", b"")),
        since=session.get("since"),
        visits=session["visits"],
        cart=session.get("cart", []),
        suggestions=SUGGESTIONS,
    )


async def show(stored: Callable[[], Awaitable[Panel]], **context: Any) -> Response:
    """The page as a stream, so that *stored* is called after the session was saved."""
    compiled = quart_session.COMPILED
    return Response(await stream_template("page.html", stored=stored, compiled=compiled, **context))


@app.post("/login")
async def login() -> ResponseReturnValue:
    name = " ".join((await request.form).get("name", "").split())[:LONGEST]
    if name:
        session["name"] = name
        session["greeting"] = Markup("Good to see you, <b>{}</b>").format(name)
        session["visitor"] = uuid4()
        session["avatar"] = secrets.token_bytes(4)
        session["since"] = datetime.now(UTC).replace(microsecond=0)
        session.setdefault("visits", 0)
        session.setdefault("cart", [])
        session.regenerate()  # type: ignore[attr-defined]
    return redirect(url_for("page"), 303)


@app.post("/cart")
async def cart() -> ResponseReturnValue:
    form = await request.form
    item = " ".join(form.get("item", "").split())[:LONGEST]
    step = -1 if form.get("step") == "-1" else 1
    lines = session.setdefault("cart", []) if item else []
    for line in lines:
        if line["item"] == item:
            line["quantity"] += step  # deep inside the session, and saved all the same
            if line["quantity"] < 1:
                lines.remove(line)
            break
    else:
        if item and step == 1 and len(lines) < MOST_LINES:
            lines.append({"item": item, "quantity": 1, "colour": colour(item)})
    return redirect(url_for("page"), 303)


@app.post("/logout")
async def logout() -> ResponseReturnValue:
    session.destroy()  # type: ignore[attr-defined]
    return redirect(url_for("page"), 303)


async def read_record(sid: str) -> Panel:
    """What lies in the backend now, byte for byte."""
    interface = app.session_interface
    assert isinstance(interface, quart_session.SessionInterface)
    return Panel(await interface.get(interface.key_prefix + sid))


def colour(item: str) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(item.encode()).digest()[:3]
    return 90 + red % 130, 90 + green % 130, 90 + blue % 130


def drawing(seed: bytes) -> list[tuple[int, int]]:
    """The filled squares of a five by five drawing, the same left and right."""
    bits = int.from_bytes(seed)
    half = [(x, y) for x in range(3) for y in range(5) if bits >> (5 * x + y) & 1]
    return half + [(4 - x, y) for x, y in half if x < 2]


def main() -> None:
    port = os.environ.get("PORT") or "5000"
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    arm = "compiled" if quart_session.COMPILED else "pure Python"
    backend = app.config["SESSION_TYPE"]
    print(
        f"Sessions in {backend}, {arm} codec: http://127.0.0.1:{port}  (Ctrl-C stops)", flush=True
    )
    try:
        asyncio.run(serve(app, config))
    except OSError as error:
        raise SystemExit(f"Port {port} cannot be used ({error.strerror}). PORT= chooses.") from None


if __name__ == "__main__":
    main()
