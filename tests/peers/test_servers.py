"""What real servers say of their peers, over TCP and over a Unix socket, and what becomes of it."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from servers import free_port

FOLDER = Path(__file__).parent
FORWARDED = {"X-Forwarded-For": "198.51.100.9, 203.0.113.5", "Remote-Addr": "192.0.2.66"}


def command(server, unix, path, port):
    if server == "hypercorn":
        where = ["--bind", f"unix:{path}" if unix else f"127.0.0.1:{port}"]
    else:
        where = ["--uds", str(path)] if unix else ["--port", str(port)]
        where += ["--no-proxy-headers", "--log-level", "warning"]
    return [sys.executable, "-m", server, *where, "application:app"]


def accepts(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        return connection.connect_ex(address) == 0


@pytest.fixture(params=["hypercorn", "uvicorn"])
def browser(request, tmp_path_factory):
    """Start a server with some settings; return a client that talks to it and to nobody else."""
    folder = tmp_path_factory.mktemp("peers")  # a short name, since that of a socket has to be

    def browser(unix, **settings):
        path, port = folder / "app.sock", free_port()
        process = subprocess.Popen(
            command(request.param, unix, path, port),
            cwd=FOLDER,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "QUART_SESSION_TYPE": "memory",
                **{f"QUART_{key}": json.dumps(value) for key, value in settings.items()},
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends.callback(process.wait, 10)
        ends.callback(process.terminate)
        transport = httpx.HTTPTransport(uds=str(path)) if unix else None
        client = httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}")
        ends.enter_context(client)
        deadline = time.monotonic() + 30
        while not accepts(str(path) if unix else ("127.0.0.1", port)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        return client

    with ExitStack() as ends:
        yield browser


@pytest.mark.parametrize(
    ("unix", "trusted", "address"),
    [
        (False, False, "127.0.0.1"),
        (False, ["127.0.0.0/8"], "203.0.113.5"),
        (False, ["10.0.0.0/8"], "127.0.0.1"),
        (True, False, "<local>"),
        (True, ["unix:"], "203.0.113.5"),
    ],
)
def test_whom_an_application_takes_its_client_for(browser, unix, trusted, address):
    client = browser(unix, SESSION_REVERSE_PROXY=trusted, SESSION_PROTECTION=True)
    for visits in (1, 2):
        answer = client.get("/", headers=FORWARDED).json()
        assert answer == {"address": address, "visits": visits}
