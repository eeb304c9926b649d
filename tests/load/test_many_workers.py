"""Many clients, several worker processes, real servers: every client's own count is exact.

``LOAD_REQUESTS`` sets how many requests each combination gets.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import httpx
import pytest
from backends import BACKENDS, TRIO, UNDER_LOAD
from servers import free_port

pytestmark = pytest.mark.anyio

CLIENTS = 200
REQUESTS = int(os.environ.get("LOAD_REQUESTS", "1000"))
WORKERS = 4
PATIENCE = 60
"""Seconds that servers and clients wait for each other. All of them on one machine are slow."""
HANGING_UP = 20
"""Clients that break off some of their requests."""


@pytest.fixture
def anyio_backend():
    return "asyncio"


PAIRS = [
    (server, backend)
    for server in ("hypercorn", "hypercorn-trio", "uvicorn")
    for backend in UNDER_LOAD
    if server != "hypercorn-trio" or backend in TRIO
]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    """The names of an ASGI server and of a backend that runs under it."""
    return request.param


@pytest.fixture
def server(pair, monkeypatch):
    """The command line of an ASGI server with several worker processes."""
    kind, _ = pair
    if kind == "hypercorn-trio":
        monkeypatch.setenv("UNDER_TRIO", "1")

    def server(port):
        if kind == "uvicorn":
            options = ["--port", port, "--timeout-keep-alive", PATIENCE, "--log-level", "warning"]
        else:
            options = ["--bind", f"127.0.0.1:{port}", "--keep-alive", PATIENCE]
        if kind == "hypercorn-trio":
            options += ["--worker-class", "trio"]
        name = kind.partition("-")[0]
        options += ["--workers", WORKERS, "application:app"]
        return [sys.executable, "-m", name, *map(str, options)]

    return server


@pytest.fixture
def settings(request, pair, tmp_path):
    _, backend = pair
    settings = BACKENDS[backend](request, tmp_path)
    return {f"QUART_{key}": str(value) for key, value in settings.items()}


@pytest.fixture
def url(server, settings, tmp_path):
    port = free_port()
    environment = {
        **os.environ,
        **settings,
        "INSTANCE_PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    log = (tmp_path / "server.log").open("wb")
    process = subprocess.Popen(
        server(port),
        cwd=Path(__file__).parent,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process, tmp_path / "server.log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            log.close()
            shutil.rmtree(tmp_path, ignore_errors=True)


def wait_until_up(url, process, log):
    """Wait until each worker has answered."""
    deadline = time.monotonic() + 60
    workers = set()
    while len(workers) < WORKERS:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"only {len(workers)} workers are up:\n{log.read_text()}")
        try:
            workers.add(httpx.get(url + "/up", timeout=5).raise_for_status().text)
        except httpx.TransportError:
            time.sleep(0.1)


async def test_every_count_is_exact_and_no_data_is_mixed_up(url):
    workers = set()
    # A connection for each request, so that one client's requests reach several workers.
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=0)

    async def visit(number, transport):
        """One client, which sends its requests one after the other."""
        name = f"client-{number}"
        headers = {}
        for expected in range(1, REQUESTS // CLIENTS + 1):
            request = httpx.Request("POST", f"{url}/count/{name}", headers=headers)
            response = await transport.handle_async_request(request)
            response.request = request
            body = await response.aread()
            assert response.status_code == 200, body
            if sid := response.cookies.get("session"):
                headers["Cookie"] = f"session={sid}"
            answer = json.loads(body)
            workers.add(answer.pop("pid"))
            assert answer == {"owner": name, "visits": expected}

    async with (
        httpx.AsyncHTTPTransport(limits=limits) as transport,
        anyio.create_task_group() as clients,
    ):
        for number in range(CLIENTS):
            clients.start_soon(visit, number, transport)
    assert len(workers) == WORKERS


async def test_clients_that_hang_up_harm_nobody(url):
    """Each one's own session is read by the next request, and has what was confirmed."""
    hung_up = 0

    async def browse(number):
        nonlocal hung_up
        name = f"client-{number}"
        dice = random.Random(number)
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            await client.post(f"{url}/count/{name}")  # begins the session
            confirmed = sent = 1
            for _ in range(REQUESTS // HANGING_UP):
                sent += 1
                with anyio.move_on_after(dice.uniform(0, 0.02)):
                    response = await client.post(f"{url}/count/{name}")
                    assert response.status_code == 200
                    confirmed += 1
        hung_up += sent - confirmed
        # The server may still be about to save what it has begun.
        async with httpx.AsyncClient(cookies=client.cookies, timeout=PATIENCE) as client:
            answer = (await client.post(f"{url}/count/{name}")).json()
            assert answer["owner"] == name
            assert confirmed < answer["visits"] <= sent + 1

    async with anyio.create_task_group() as clients:
        for number in range(HANGING_UP):
            clients.start_soon(browse, number)
    assert hung_up
