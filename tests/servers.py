"""Real servers for the tests: each on a free port in a temporary folder, stopped by its process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar


def free_port() -> int:
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        # A node of a Redis cluster takes the port 10,000 above as well.
        if port < 55536 and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """A process of a server."""

    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers. It does not run yet."""
        raise NotImplementedError

    def stop(self, kill: bool = False) -> None:
        """Stop the server, in order or (*kill*) as a crash does. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            process.wait(10)

    def freeze(self) -> None:
        """Make the server silent: it takes connections and answers nothing, until ``thaw()``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # its threads may go on for a moment

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


S = TypeVar("S", bound=Server)


@contextmanager
def running(server: S) -> Iterator[S]:
    """Run *server*, and stop it whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.stop(kill=True)


class RedisServer(Server):
    """A redis-server that forgets everything when it stops.

    It listens on the loopback interface (``url``) and on a Unix socket (``unix_url``).

    :param program: by default what ``REDIS_SERVER`` in the environment says, else redis-server.
    """

    def __init__(self, folder: Path, *options: str, program: str | Path | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.socket = folder / "redis.sock"
        self.unix_url = f"unix://{self.socket}"
        self.program = program or os.environ.get("REDIS_SERVER") or "redis-server"
        self.folder = folder
        self._options = options

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        program = shutil.which(self.program)
        if program is None:
            raise RuntimeError(f"{self.program} is not installed (apt-get install redis-server)")
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._arguments(), *self._options], stdout=log, stderr=log
            )
        self._wait_until_it_answers()

    def _arguments(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "unixsocket": self.socket,
            "dir": self.folder,
            "save": "",
            "appendonly": "no",
        }
        return [str(part) for name, value in options.items() for part in (f"--{name}", value)]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64)[:5] in (b"+PONG", b"-NOAU"):
                        return
            except OSError:
                pass
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "redis.log").read_text(errors="replace")
                self.stop(kill=True)
                raise RuntimeError(f"redis-server does not start:\n{log}")
            time.sleep(0.02)


def redis_server(
    folder: Path, *options: str, program: str | Path | None = None
) -> AbstractContextManager[RedisServer]:
    """Run a Redis server whose files lie in *folder*, with *options* of its command line."""
    return running(RedisServer(folder, *options, program=program))


@contextmanager
def left_by(server: RedisServer) -> Iterator[RedisServer]:
    """Run another server on what *server*, which was killed, has in its append-only file."""
    with TemporaryDirectory() as folder:
        ignored = shutil.ignore_patterns("*.sock", "nodes.conf")
        shutil.copytree(server.folder, folder, ignore=ignored, dirs_exist_ok=True)
        with redis_server(Path(folder), "--appendonly", "yes") as copy:
            yield copy


class MemcachedServer(Server):
    """A memcached, which forgets everything when it stops.

    It listens on the loopback interface (``url``) or, where it was given a *socket*, there.
    """

    def __init__(self, *options: str, socket: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"memcached://127.0.0.1:{self.port}"
        self.socket = socket
        self._options = options

    def start(self) -> None:
        program = shutil.which("memcached")
        if program is None:
            raise RuntimeError("memcached is not installed (apt-get install memcached)")
        where = ["-l", "127.0.0.1", "-p", str(self.port)]
        if self.socket is not None:
            where = ["-s", str(self.socket)]
        user = ["-u", "root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self._process = subprocess.Popen([program, *where, *user, *self._options])
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop(kill=True)
                raise RuntimeError("memcached does not start")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            if self.socket is not None:
                return self.socket.is_socket()
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


def memcached_server(
    *options: str, socket: Path | None = None
) -> AbstractContextManager[MemcachedServer]:
    """Run a memcached, with *options* of its command line."""
    return running(MemcachedServer(*options, socket=socket))
