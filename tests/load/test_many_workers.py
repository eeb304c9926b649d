"""Many clients, several worker processes, real servers: every client's own count is exact.

``LOAD_REQUESTS`` sets how many requests each combination gets.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import httpx
import pytest
from servers import free_port

pytestmark = pytest.mark.anyio

CLIENTS = 200
REQUESTS = int(os.environ.get("LOAD_REQUESTS", "2000"))
WORKERS = 4


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=["hypercorn", "uvicorn"])
def server(request):
    """The command line of an ASGI server with several worker processes."""

    def server(port):
        if request.param == "hypercorn":
            options = ["--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)]
        else:
            options = ["--port", str(port), "--workers", str(WORKERS), "--log-level", "warning"]
        return [sys.executable, "-m", request.param, *options, "application:app"]

    return server


@pytest.fixture(params=["sqlite", "redis"])
def settings(request):
    if request.param == "sqlite":
        return {"QUART_SESSION_TYPE": "sqlite"}
    return {
        "QUART_SESSION_TYPE": "redis",
        "QUART_SESSION_URI": request.getfixturevalue("redis_server").url,
    }


@pytest.fixture
def url(server, settings, tmp_path):
    port = free_port()
    environment = {
        **os.environ,
        **settings,
        # Two cores serve two hundred clients: a worker may be off the processor for a while.
        "QUART_SESSION_TIMEOUT": "20",
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url + "/up", timeout=5).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(log.read_text())


async def test_every_count_is_exact_and_no_data_is_mixed_up(url):
    workers = set()

    async def visit(number):
        """One client, which sends its requests one after the other on connections of its own."""
        name = f"client-{number}"
        cookies = {}
        for expected in range(1, REQUESTS // CLIENTS + 1):
            # A connection each, so that the requests of one client reach several workers.
            async with httpx.AsyncClient(cookies=cookies, timeout=60) as client:
                response = await client.post(f"{url}/count/{name}")
                assert response.status_code == 200, response.text
                cookies = dict(client.cookies)
            answer = response.json()
            workers.add(answer.pop("pid"))
            assert answer == {"owner": name, "visits": expected}

    async with anyio.create_task_group() as clients:
        for number in range(CLIENTS):
            clients.start_soon(visit, number)
    assert len(workers) == WORKERS
