"""A TCP proxy on the loopback interface that does to a connection what networks do."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal

from anyio.to_thread import run_sync

Mode = Literal["pass", "black hole", "half-open"]


@dataclass(eq=False)
class _Trap:
    command: bytes
    passing: int
    skip: int
    then: Callable[[], Awaitable[None]] | None


@dataclass(eq=False)
class _Link:
    """One connection of the application, and the one that belongs to it at the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    trap: _Trap | None = None
    """What becomes of the reply that comes next."""


class Proxy:
    """Passes everything on to a port of this machine, until a test says otherwise.

    ``delay`` keeps each reply back for so many seconds. ``mode`` is ``"black hole"``: everything is
    accepted and nothing passed on, or ``"half-open"``: nothing is even read.

    It lives in a thread of its own, so it works beside any event loop, whatever that is busy with.
    """

    def __init__(self, target: int, scheme: str = "redis") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self.target = target
        self.scheme = scheme
        self.delay = 0.0
        self.mode: Mode = "pass"
        self.replies_lost = 0
        self._trap: _Trap | None = None
        self._listener: socket.socket | None = None
        self._accepted: set[socket.socket] = set()
        """Those that have no link yet."""
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def refuses(self) -> bool:
        return self._listener is None

    async def __aenter__(self) -> Proxy:
        self._thread.start()
        await self.accept()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()
        await run_sync(self._do, self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def accept(self) -> None:
        """Take connections, on the same port as ever."""
        await run_sync(self._do, self._listen())

    async def refuse(self) -> None:
        """Refuse new connections and break the old ones."""
        await run_sync(self._do, self._refuse())

    def reset(self) -> None:
        """Break every connection, as a firewall or a crash does."""
        self._do(self._reset())

    def become(self, mode: Mode) -> None:
        self._do(self._become(mode))

    def lose_reply(
        self,
        command: bytes,
        passing: int = 0,
        *,
        skip: int = 0,
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """The next command in which *command*, a pattern, is found reaches the server, and its
        reply is lost.

        The first *passing* bytes of the reply still arrive. Then *then* is called, in the proxy's
        event loop, and the connection breaks. The first *skip* such commands get their reply.
        """
        self._trap = _Trap(command, passing, skip, then)

    # -- the same in its own thread

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        accepted = set(self._accepted)
        while accepted & self._accepted:  # noqa: ASYNC110 -- sends no event
            await asyncio.sleep(0.001)
        for link in list(self._links):
            self._break(link)
        await asyncio.sleep(0)

    async def _become(self, mode: Mode) -> None:
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    # -- what it does with a connection

    def _break(self, link: _Link) -> None:
        self._links.discard(link)
        link.server.close()
        # A linger of 0 seconds makes the close a reset.
        connection = link.client.get_extra_info("socket")
        with suppress(OSError):  # it is closed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.client.transport.abort()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # the other side has gone meanwhile
            return
        self._accepted.add(connection)
        task = self._loop.create_task(self._connected(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**20)
        try:
            from_server, to_server = await asyncio.open_connection(
                "127.0.0.1", self.target, limit=2**20
            )
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        finally:
            self._accepted.discard(connection)
        link = _Link(writer, to_server)
        self._links.add(link)
        replies = asyncio.create_task(self._pump_replies(link, from_server))
        try:
            await self._pump_commands(link, reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            replies.cancel()
            self._break(link)
            await asyncio.gather(replies, return_exceptions=True)

    async def _pump_commands(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while True:
            while self.mode == "half-open":
                await self._changed.wait()
            if not (data := await reader.read(2**16)):
                return
            if self.mode != "pass":
                continue
            if (trap := self._trap) is not None and re.search(trap.command, data):
                if trap.skip:
                    trap.skip -= 1
                else:
                    link.trap, self._trap = trap, None
            link.server.write(data)
            await link.server.drain()

    async def _pump_replies(self, link: _Link, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(2**16):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if link.trap is not None:
                    self.replies_lost += 1
                    link.client.write(data[: link.trap.passing])
                    await asyncio.sleep(0.01)  # what was written is on its way
                    if link.trap.then is not None:
                        await link.trap.then()
                    break
                if self.mode == "pass":
                    link.client.write(data)
                    await link.client.drain()
        except OSError:
            pass
        self._break(link)
