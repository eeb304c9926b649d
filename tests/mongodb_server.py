"""A server that speaks MongoDB's protocol. No mongod is needed: nx-27017 keeps it in SQLite."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from servers import Server, free_port, running

PROGRAM = Path(__file__).with_name("mongodb_stand_in.py")


class MongoDBServer(Server):
    """A server on the loopback interface.

    :param database: a file, which it finds again when it starts again, or ``"memory"``.
    """

    def __init__(self, folder: Path, database: str = "memory") -> None:
        self.port = free_port()
        self.uri = f"mongodb://127.0.0.1:{self.port}/shop"
        self._folder = folder
        self._database = database

    def start(self) -> None:
        options = {
            "db": self._database,
            "host": "127.0.0.1",
            "port": self.port,
            "log-file": self._folder / "mongodb.log",
            "pid-file": self._folder / "mongodb.pid",
        }
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        with (self._folder / "mongodb.out").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, *arguments], cwd=self._folder, stdout=log, stderr=log
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        # Not by pymongo, which leaves the sockets of refused connections to the garbage collector.
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                pass
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "mongodb.out").read_text(errors="replace")
                self.stop(kill=True)
                raise RuntimeError(f"nx-27017 does not start:\n{log}")
            time.sleep(0.02)
        # Here, since tests of wheels do without.
        from pymongo import MongoClient

        with MongoClient[dict[str, object]](self.uri) as client:
            client.admin.command("ping")


def mongodb_server(folder: Path, database: str = "memory") -> AbstractContextManager[MongoDBServer]:
    """Run a server whose files lie in *folder*."""
    return running(MongoDBServer(folder, database))
