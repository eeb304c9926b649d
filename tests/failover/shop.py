"""A shop on several Redis servers, whose visitors never stop to count up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any
from uuid import uuid4

import anyio
import redis
from clock import clock
from quart import Quart, session
from redis_topologies import Cluster, Topology
from servers import left_by

from quart_session import Session
from quart_session.errors import StoreError

TIMEOUT = 1.0


class Visitor:
    """One browser, which counts up one request after the other."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.client = client
        self.confirmed = 0
        self.refused = 0
        self.base = 0
        """The count that the session had when ``confirmed`` was 0."""
        self.beginnings = 0

    def begin_anew(self, count: int, more: int = 0) -> None:
        """The session has *count*, or up to *more* than that."""
        self.base, self.confirmed, self.refused = count, 0, more
        self.beginnings += 1

    def check(self, count: int) -> None:
        """Nothing that was confirmed is lost, and nothing is there that was never sent."""
        least = self.base + self.confirmed
        assert least <= count <= least + self.refused, (self.name, count, vars(self))


class Shop:
    """Its visitors each have a session with a name and a count."""

    def __init__(
        self,
        servers: Topology,
        visitors: int = 24,
        kind: type[Quart] = Quart,
        kind_of_visitor: type[Visitor] = Visitor,
    ) -> None:
        self.servers = servers
        self.app = kind("failover")
        self.app.config.update(
            SESSION_TYPE="redis",
            SESSION_URI=servers.url,
            SESSION_TIMEOUT=TIMEOUT,
            SESSION_KEY_PREFIX=f"{uuid4().hex}:",
            PROPAGATE_EXCEPTIONS=False,
        )
        self.app.logger.setLevel("CRITICAL")
        Session(self.app)
        self.visitors = [
            kind_of_visitor(f"visitor {n}", self.app.test_client()) for n in range(visitors)
        ]
        self.statuses: Counter[int] = Counter()
        self.longest = 0.0
        self.errors: set[type] = set()
        self.reasons: Counter[str] = Counter()

        @self.app.errorhandler(500)
        @self.app.errorhandler(503)
        async def failed(error: Any) -> tuple[str, int]:
            cause = getattr(error, "original_exception", None) or error.__cause__
            self.errors.add(type(cause))
            self.reasons[str(cause)[-90:]] += 1
            return "", error.code

        @self.app.post("/<name>")
        async def count(name: str) -> dict[str, Any]:
            assert session.setdefault("name", name) == name
            session["count"] = session.get("count", 0) + 1
            return {"count": session["count"]}

    @property
    def interface(self) -> Any:
        return self.app.session_interface

    async def visit(self, visitor: Visitor) -> bool:
        started = clock()
        beginnings = visitor.beginnings
        response = await visitor.client.post(f"/{visitor.name}")
        self.longest = max(self.longest, clock() - started)
        self.statuses[response.status_code] += 1
        if visitor.beginnings > beginnings:
            # It may have counted before or after that.
            visitor.refused += 1
        elif response.status_code == 200:
            visitor.confirmed += 1
            count = (await response.get_json())["count"]
            visitor.check(count)
        else:
            visitor.refused += 1
        return bool(response.status_code == 200)

    async def everybody_is_served(self) -> None:
        for visitor in self.visitors:
            assert await self.visit(visitor)

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Everybody comes again and again, until the end of the body and of the last request."""
        closing = False

        async def keep_visiting(visitor: Visitor) -> None:
            while not closing:
                await self.visit(visitor)
                await anyio.sleep(0.005)

        await self.everybody_is_served()
        async with anyio.create_task_group() as tasks:
            for visitor in self.visitors:
                tasks.start_soon(keep_visiting, visitor)
            await anyio.sleep(0.3)
            try:
                yield
            finally:
                closing = True

    def key_of(self, visitor: Visitor) -> str:
        [cookie] = visitor.client.cookie_jar
        prefix: str = self.app.config["SESSION_KEY_PREFIX"]
        return prefix + sha256(cookie.value.encode()).hexdigest()

    async def until_all_are_served(self, seconds: float) -> float:
        """How many seconds it takes until every visitor was served once more."""
        started = time.monotonic()
        before = {visitor: visitor.confirmed for visitor in self.visitors}
        with anyio.fail_after(seconds):
            while any(  # noqa: ASYNC110 -- sends no event
                visitor.confirmed == count for visitor, count in before.items()
            ):
                await anyio.sleep(0.05)
        return time.monotonic() - started

    def counts_at(self, n: int, visitors: list[Visitor]) -> dict[Visitor, int]:
        """What server *n*, be it a replica, has of *visitors*."""
        return self._counts(
            self.servers.servers[n].port, visitors, isinstance(self.servers, Cluster)
        )

    def counts_confirmed_by(self, n: int, visitors: list[Visitor]) -> dict[Visitor, int]:
        """What server *n* had of *visitors* when it was killed."""
        with left_by(self.servers.servers[n]) as server:
            return self._counts(server.port, visitors)

    def _counts(
        self, port: int, visitors: list[Visitor], of_cluster: bool = False
    ) -> dict[Visitor, int]:
        with redis.Redis(port=port) as client:
            if of_cluster:
                client.execute_command("READONLY")
            documents = [client.get(self.key_of(visitor)) for visitor in visitors]
        loads = self.interface.serializer.loads
        return {
            visitor: 0 if document is None else loads(document)["count"]
            for visitor, document in zip(visitors, documents, strict=True)
        }

    def only_documented_errors(self) -> None:
        """Nobody waited longer than a load and a save may take, or got another error."""
        assert self.longest < 2 * TIMEOUT + 1.5
        assert set(self.statuses) <= {200, 500, 503}
        assert all(issubclass(error, StoreError) for error in self.errors), self.errors
