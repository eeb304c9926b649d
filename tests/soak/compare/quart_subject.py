"""The tests of the comparison for Quart-Session, version 3.0.0 and this one alike."""

import asyncio
import logging
import random
import sys
import time
from contextvars import ContextVar

from programs import (
    IN_PLACE,
    LOST,
    RESURRECTED,
    START,
    act,
    answer,
    ask,
    is_back,
    is_lost,
    say,
    schedules,
    share,
)
from quart import Quart, request, session

from quart_session import Session

PATIENCE = 5
number_of_request: ContextVar[int | None] = ContextVar("number_of_request", default=None)


class Conductor:
    """Lets requests load and save their session in the order of one schedule."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.position = 0
        self.moved = asyncio.Condition()

    async def turn(self, number):
        async with self.moved:
            await self.moved.wait_for(lambda: self.schedule[self.position] == number)

    async def next(self):
        async with self.moved:
            self.position += 1
            self.moved.notify_all()


conductor = None


def conduct(method):
    async def conducted(*args, **kwargs):
        number = number_of_request.get()
        if conductor is None or number is None:
            return await method(*args, **kwargs)
        await conductor.turn(number)
        try:
            return await method(*args, **kwargs)
        finally:
            await conductor.next()

    return conducted


def make_app(port):
    app = Quart(__name__)
    app.config["SESSION_TYPE"] = "redis"
    app.config["SESSION_URI"] = f"redis://127.0.0.1:{port}"
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.secret_key = "a secret key of the tests"
    Session(app)

    @app.post("/start")
    async def start():
        session.update({**START, **(await request.get_json() or {})})
        return "started"

    @app.post("/act/<int:number>/<what>")
    async def do(number, what):
        act(session, number, what)
        return "done"

    @app.get("/look")
    async def look():
        return {key: value for key, value in session.items() if not key.startswith("_")}

    @app.get("/user")
    async def user():
        return str(session.get("user"))

    @app.get("/plain")
    async def plain():
        return "fine"

    return app


def client_with(app, headers):
    client = app.test_client()
    return lambda path, method="GET", **options: client.open(
        path, method=method, headers=headers, **options
    )


async def start(app, **data):
    """A new session: the headers that carry it."""
    response = await app.test_client().post("/start", json=data)
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


async def bad_schedules(app, programs, is_bad):
    global conductor
    bad = total = 0
    for program in programs:
        for schedule in schedules(len(program)):
            headers = await start(app)
            conductor = Conductor([*schedule, -1])

            async def send(number, what, headers=headers):
                number_of_request.set(number)
                await client_with(app, headers)(f"/act/{number}/{what}", "POST")

            await asyncio.gather(*[send(*pair) for pair in enumerate(program)])
            conductor = None
            seen = await (await client_with(app, headers)("/look")).get_json()
            bad += is_bad(program, seen)
            total += 1
    return share(bad, total)


async def timed(visit, path):
    started = time.monotonic()
    try:
        response = await asyncio.wait_for(visit(path), PATIENCE)
        text = await response.get_data(as_text=True)
        return response.status_code, text, time.monotonic() - started
    except TimeoutError:
        return None, "", time.monotonic() - started
    except Exception:  # what a server answers 500
        return 500, "", time.monotonic() - started


async def disconnects(app):
    """Requests of many users are cancelled; whom do the others' answers belong to?"""
    users = {f"user {n}": await start(app, user=f"user {n}") for n in range(20)}
    dice = random.Random(1)

    async def cancelled():
        visit = client_with(app, users[dice.choice(list(users))])
        task = asyncio.create_task(visit("/user"))
        await asyncio.sleep(dice.uniform(0, 0.003))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    wrong = 0

    async def asks():
        nonlocal wrong
        name = dice.choice(list(users))
        status, text, _ = await timed(client_with(app, users[name]), "/user")
        wrong += (status, text) != (200, name)

    for _ in range(100):
        await asyncio.gather(*[cancelled() for _ in range(10)])
        await asyncio.gather(*[asks() for _ in range(10)])
    return str(wrong)


async def main(port):
    app = make_app(port)
    async with app.test_app():
        app.session_interface.open_session = conduct(app.session_interface.open_session)
        app.session_interface.save_session = conduct(app.session_interface.save_session)
        say("lost", await bad_schedules(app, LOST, is_lost))
        say("changed in place", await bad_schedules(app, IN_PLACE, is_lost))
        say("resurrected", await bad_schedules(app, RESURRECTED, is_back))
        say("disconnects", await disconnects(app))
        visit = client_with(app, await start(app))
        for row, begin, end in (("silent", "freeze", "thaw"), ("refused", "stop", "start")):
            ask(begin)
            say(f"{row}, session", answer(*await timed(visit, "/user")))
            say(f"{row}, plain", answer(*await timed(visit, "/plain")))
            if row == "silent":
                waits = await asyncio.gather(*[timed(visit, "/user") for _ in range(64)])
                say("silent, 64", answer(*max(waits, key=lambda wait: wait[2])))
            ask(end)


logging.disable(logging.CRITICAL)
asyncio.run(main(sys.argv[1]))
