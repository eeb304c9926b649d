"""Servers that a test may harm, and a proxy in front of them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from clock import clock
from quart import Quart, Response, session
from quart_trio import QuartTrio
from servers import RedisServer
from servers import redis_server as run_redis_server
from tcp_proxy import Proxy

from quart_session import Session


@pytest.fixture(autouse=True)
def without_the_garbage_of_others() -> Iterator[None]:
    """To look through all that the tests before left takes the garbage collector 80 ms, which would
    be a part of some request."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill; it keeps on disk whatever it confirmed."""
    with run_redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def backend() -> str:
    """The kind of server, unless a test is run on several."""
    return "redis"


@pytest.fixture
async def proxy(request: pytest.FixtureRequest, backend: str) -> AsyncIterator[Proxy]:
    """The way to the server that all tests share."""
    server = request.getfixturevalue(f"{backend}_server")
    async with Proxy(server.port, backend) as proxy:
        yield proxy


TIMEOUT = 0.3


class Site:
    """A shop whose visitors each have a name and a count in their session."""

    def __init__(self, kind: type[Quart], folder: Path, **config: Any) -> None:
        self.app = kind("outage", instance_path=str(folder))
        self.app.config.update(
            SESSION_TIMEOUT=TIMEOUT,
            SESSION_KEY_PREFIX=f"{uuid4().hex}:",
            PROPAGATE_EXCEPTIONS=False,
        )
        self.app.config.update(config)
        self.app.secret_key = "a secret key of the tests"
        self.app.logger.setLevel("CRITICAL")  # tracebacks of a crowd take their time
        Session(self.app)
        self.waits: list[float] = []
        """How long each request took."""
        self.since = 0.0
        """What was before that time is no part of it."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens in ``/act`` between the load and the save."""
        self.act: Callable[[Any], object] = lambda session: None

        @self.app.post("/count")
        async def count() -> dict[str, Any]:
            session["count"] = session.get("count", 0) + 1
            return {"name": session.get("name"), "count": session["count"]}

        @self.app.get("/look")
        async def look() -> dict[str, Any]:
            return {"available": session.available, **session}

        @self.app.get("/plain")
        async def plain() -> str:
            return "fine"

        @self.app.post("/name/<name>")
        async def name(name: str) -> str:
            session["name"] = name
            return name

        @self.app.post("/act")
        async def act() -> str:
            self.act(session)
            if self.meanwhile is not None:
                await self.meanwhile()
            return "done"

    @property
    def interface(self) -> Any:
        return self.app.session_interface

    async def visit(self, visitor: Any, path: str) -> Response:
        method = "GET" if path in ("/look", "/plain") else "POST"
        started = clock()
        response: Response = await visitor.open(path, method=method)
        self.waits.append(clock() - max(started, self.since))
        return response

    async def status(self, visitor: Any, path: str) -> int:
        return (await self.visit(visitor, path)).status_code

    async def look(self, visitor: Any) -> dict[str, Any]:
        response = await self.visit(visitor, "/look")
        assert response.status_code == 200
        seen: dict[str, Any] = await response.get_json()
        return seen

    async def new_visitor(self, name: str) -> Any:
        visitor = self.app.test_client()
        assert await self.status(visitor, f"/name/{name}") == 200
        return visitor

    async def do(self, visitor: Any, act: Callable[[Any], object]) -> Response:
        """Send one request whose view calls *act* with the session."""
        self.act = act
        return await self.visit(visitor, "/act")

    def in_time(self, what: str, margin: float = 0.7) -> None:
        """No request since the last call waited longer than the timeout and a *margin*.

        A busy machine needs that margin; an idle one stays below 0.1 s.
        """
        print(f"{what}: p100 {max(self.waits):.3f} s of {len(self.waits)} requests at {TIMEOUT} s")
        assert max(self.waits) < TIMEOUT + margin
        self.waits.clear()


@pytest.fixture
async def new_site(tmp_path: Path, anyio_backend_name: str) -> AsyncIterator[Callable[..., Site]]:
    sites: list[Site] = []
    kind = QuartTrio if anyio_backend_name == "trio" else Quart

    def new_site(**config: Any) -> Site:
        sites.append(Site(kind, tmp_path, **config))
        return sites[-1]

    yield new_site
    for site in sites:
        await site.interface.close()


@pytest.fixture
def site(new_site: Callable[..., Site], proxy: Proxy) -> Site:
    return new_site(SESSION_TYPE=proxy.scheme, SESSION_URI=proxy.url)
