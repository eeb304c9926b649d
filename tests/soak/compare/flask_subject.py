"""The tests of the comparison for Flask-Session: each request in a thread of its own."""

import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfPatience

from flask import Flask, session
from flask_session import Session
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
from redis import Redis

PATIENCE = 5


class Conductor:
    """Lets requests load and save their session in the order of one schedule."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.position = 0
        self.moved = threading.Condition()

    def turn(self, number):
        with self.moved:
            self.moved.wait_for(lambda: self.schedule[self.position] == number)

    def next(self):
        with self.moved:
            self.position += 1
            self.moved.notify_all()


conductor = None
number_of_request = threading.local()


def conduct(method):
    def conducted(*args, **kwargs):
        number = getattr(number_of_request, "number", None)
        if conductor is None or number is None:
            return method(*args, **kwargs)
        conductor.turn(number)
        try:
            return method(*args, **kwargs)
        finally:
            conductor.next()

    return conducted


def make_app(port):
    app = Flask(__name__)
    app.config["SESSION_TYPE"] = "redis"
    app.config["SESSION_REDIS"] = Redis(port=int(port))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    Session(app)

    @app.post("/start")
    def start():
        session.update(START)
        return "started"

    @app.post("/act/<int:number>/<what>")
    def do(number, what):
        act(session, number, what)
        return "done"

    @app.get("/look")
    def look():
        return {key: value for key, value in session.items() if not key.startswith("_")}

    @app.get("/user")
    def user():
        return str(session.get("user"))

    @app.get("/plain")
    def plain():
        return "fine"

    return app


def start(app):
    response = app.test_client().post("/start")
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


def visit(app, headers, path, method="GET"):
    return app.test_client(use_cookies=False).open(path, method=method, headers=headers)


def bad_schedules(app, programs, is_bad):
    global conductor
    bad = total = 0
    with ThreadPoolExecutor(3) as threads:
        for program in programs:
            for schedule in schedules(len(program)):
                headers = start(app)
                conductor = Conductor([*schedule, -1])

                def send(number, what, headers=headers):
                    number_of_request.number = number
                    visit(app, headers, f"/act/{number}/{what}", "POST")

                for sent in [threads.submit(send, *pair) for pair in enumerate(program)]:
                    sent.result()
                conductor = None
                seen = visit(app, headers, "/look").get_json()
                bad += is_bad(program, seen)
                total += 1
    return share(bad, total)


def timed(threads, app, headers, path):
    started = time.monotonic()
    try:
        response = threads.submit(visit, app, headers, path).result(PATIENCE)
        return response.status_code, response.text, time.monotonic() - started
    except OutOfPatience:
        return None, "", time.monotonic() - started
    except Exception:  # what a server answers 500
        return 500, "", time.monotonic() - started


def main(port):
    app = make_app(port)
    interface = app.session_interface
    interface.open_session = conduct(interface.open_session)
    interface.save_session = conduct(interface.save_session)
    say("lost", bad_schedules(app, LOST, is_lost))
    say("changed in place", bad_schedules(app, IN_PLACE, is_lost))
    say("resurrected", bad_schedules(app, RESURRECTED, is_back))
    headers = start(app)
    with ThreadPoolExecutor(80) as threads, ThreadPoolExecutor(64) as watchers:
        for row, begin, end in (("silent", "freeze", "thaw"), ("refused", "stop", "start")):
            ask(begin)
            say(f"{row}, session", answer(*timed(threads, app, headers, "/user")))
            say(f"{row}, plain", answer(*timed(threads, app, headers, "/plain")))
            if row == "silent":
                crowd = [watchers.submit(timed, threads, app, headers, "/user") for _ in range(64)]
                waits = [member.result() for member in crowd]
                say("silent, 64", answer(*max(waits, key=lambda wait: wait[2])))
            ask(end)


logging.disable(logging.CRITICAL)
main(sys.argv[1])
