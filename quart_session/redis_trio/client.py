"""``RedisTrio``: one connection for all tasks of an event loop.

It stands on the connections of coredis, which are maintained, safe when a caller is cancelled, and
answer 20 callers in half the processor time that its own pool takes, which for ever loses the place
of a connection whose making was cancelled. valkey-glide costs as much as they do, but has neither
Windows nor Sentinel, and takes its whole time-out to tell that a server is down.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

import anyio
import trio
from anyio.abc import ByteStream
from coredis import ConnectionPool
from coredis.connection import (
    BaseConnection,
    Location,
    TCPLocation,
    UnixDomainSocketLocation,
)
from coredis.exceptions import ConnectionError, ResponseError

from quart_session.redis_trio.hosting import Hosted, patiently

OPTIONS = {
    "client_name",
    "db",
    "max_connections",  # of other clients: this one has one
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
}


class Call:
    """A command on its way. Who waits for its answer may go away and come back.

    :param repeat_with: arguments to add when it is sent again, for a script that should know.
    """

    def __init__(self, command: tuple[Any, ...], repeat_with: tuple[Any, ...] = ()) -> None:
        self.command = command
        self.repeated = False
        """Whether this is the second attempt, and nobody knows what became of the first."""
        self.request: Awaitable[Any] | None = None
        """The present attempt."""
        self._repeat_with = repeat_with

    def repeat(self) -> None:
        """Forget the attempts so far."""
        if not self.repeated:
            self.command += self._repeat_with
        self.repeated = True
        self.request = None


class RedisTrio:
    """A client of one Redis server (6.0 or newer), for Trio.

    ::

        async with RedisTrio() as redis:
            await redis.set("foo", 42)
            await redis.get("foo")  # b"42"

    All tasks use it side by side. It connects at first use, and again when the connection broke; a
    command that a broken connection left without an answer is sent once more.

    :param addr: the server's name or address.
    :param port: its port.
    :param password: what the server wants to hear, if anything.
    :param timeout: seconds that a command may take, with all that belongs to it.
    """

    patient = False
    """Whether another server may take the place of the one that does not answer."""

    def __init__(
        self,
        addr: bytes | str = "127.0.0.1",
        port: int = 6379,
        password: bytes | str = "",
        *,
        timeout: float = 1.0,
    ) -> None:
        self._server = Server(TCPLocation(_text(addr), port), {"password": _text(password)})
        self._timeout = timeout
        self._link: trio.lowlevel.RunVar[_Link | None] = trio.lowlevel.RunVar("redis_trio", None)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 1.0) -> Self:
        """Make a client for ``redis://``, ``rediss://`` (TLS) or ``unix://``.

        :raises ValueError: *url* cannot be read.

        .. versionadded:: 4.0
        """
        client = cls(timeout=timeout)
        client._server = Server.from_url(url)
        return client

    async def connect(self) -> Self:
        """Connect now, so that a server that is down shows at once.

        :raises OSError: the server cannot be reached.
        :raises coredis.exceptions.RedisError: it refuses.
        :raises TimeoutError: it says nothing.
        """
        await self.execute_command("PING")
        return self

    async def close(self) -> None:
        """Close the connection of the running event loop. The next command opens another."""
        link = self._link.get()
        self._link.set(None)
        if link is not None:
            link.cancel()
            await link.ended.wait()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def get(self, key: bytes | str) -> bytes | None:
        """Return the value of *key*, ``None`` if there is none."""
        value: bytes | None = await self.execute_command("GET", key)
        return value

    async def set(self, key: bytes | str, value: Any) -> bool:
        """Set the value of *key*: bytes, or anything that ``str()`` writes."""
        return bool(await self.execute_command("SET", key, _value(value)) == b"OK")

    async def setex(self, key: bytes | str, value: Any, seconds: int) -> bool:
        """Set the value of *key* and its life in *seconds*.

        :raises TypeError: *seconds* is not an int.
        """
        if not isinstance(seconds, int):
            raise TypeError("seconds must be an int")
        return bool(await self.execute_command("SET", key, _value(value), "EX", seconds) == b"OK")

    async def delete(self, *keys: bytes | str) -> int:
        """Remove *keys*; return how many there were."""
        count: int = await self.execute_command("DEL", *keys)
        return count

    async def echo(self, message: Any) -> bytes:
        """Return *message* as the server got it."""
        answer: bytes = await self.execute_command("ECHO", _value(message))
        return answer

    async def flushall(self) -> bool:
        """Remove everything from the server."""
        return bool(await self.execute_command("FLUSHALL") == b"OK")

    async def auth(self, password: bytes | str) -> bool:
        """Log in on the present connection. One that is made later takes the constructor's."""
        return bool(await self.execute_command("AUTH", password) == b"OK")

    async def quit(self) -> bytes:
        """Close the connection, as :meth:`close` does."""
        await self.close()
        return b"OK"

    async def execute_command(self, *command: bytes | str | int | float) -> Any:
        """Send any command and return its answer: bytes, an integer, ``None``, a list.

        :raises OSError: the server cannot be reached.
        :raises coredis.exceptions.RedisError: it refuses, or the connection broke twice.
        :raises TimeoutError: there was no answer in time.

        .. versionadded:: 4.0
        """
        return await self.ask(Call(command), self._timeout)

    async def ask(self, call: Call, seconds: float) -> Any:
        """Do as :meth:`execute_command`, within *seconds*."""
        began = time.perf_counter()
        try:
            return await patiently(seconds, partial(self._answer, call))
        except TimeoutError:
            # The others that wait for this connection begin again on a new one.
            link = self._link.get()
            if link is not None and not link.has_answered_since(began):
                link.cancel()
            raise

    async def _answer(self, call: Call) -> Any:
        while True:
            try:
                if call.request is None:
                    connection = await self._connection()
                    name, *arguments = call.command
                    call.request = connection.create_request(_bytes(name), *arguments)
                return await call.request
            except ConnectionError:
                # Servers and firewalls close connections that are idle.
                if call.repeated:
                    raise
                call.repeat()

    async def _connection(self) -> _Connection:
        link = self._link.get()
        if link is None or link.is_broken():
            link = _Link(self._server)
            self._link.set(link)
        await link.start()
        if link.connection is None:
            raise ConnectionError("closed while it was made")
        return link.connection


class _Link(Hosted):
    """A connection and the task that keeps it."""

    def __init__(self, server: Server) -> None:
        super().__init__(self._keep)
        self.connection: _Connection | None = None
        self._server = server

    async def _keep(self, *, task_status: trio.TaskStatus[None]) -> None:
        stream = await self._server.connect()
        self.connection = _Connection(stream, self._server.location, **self._server.options)
        await self.connection.run(task_status=task_status)

    def cancel(self) -> None:
        if self.connection is not None:
            self.connection.invalidate()  # so nobody uses it any more while it is closed
        super().cancel()

    def is_broken(self) -> bool:
        return self.ready.is_set() and not (self.connection and self.connection.usable)

    def has_answered_since(self, moment: float) -> bool:
        return bool(self.connection and self.connection.statistics.last_byte_received_at > moment)


class _Connection(BaseConnection):
    """What speaks over a stream that is connected already.

    coredis's own subclasses leave something unclosed behind when they cannot connect.
    """

    def __init__(self, stream: ByteStream, location: Location, **options: Any) -> None:
        super().__init__(location, **options)
        self._connected = stream

    async def _connect(self) -> ByteStream:
        return self._connected

    def describe(self) -> str:
        return f"connection to {self.location}"


class Server(NamedTuple):
    """Where a server is, and how to speak to it."""

    location: TCPLocation | UnixDomainSocketLocation
    options: dict[str, Any]
    context: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str) -> Server:
        """:raises ValueError: *url* cannot be read."""
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True)
        if parts.scheme not in ("redis", "rediss", "unix") or given.keys() - OPTIONS:
            raise ValueError("not a URL of Redis")
        pool: ConnectionPool[Any] = ConnectionPool.from_url(url, decode_components=True)
        if not isinstance(pool.location, TCPLocation | UnixDomainSocketLocation):
            raise ValueError("no server in the URL")
        options: dict[str, Any] = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if name in ("client_name", "db", "password", "username")
        }
        context = pool.connection_kwargs.get("ssl_context")
        # The default of redis-py, which coredis does not share.
        if context is not None and context.verify_mode and "ssl_check_hostname" not in given:
            context.check_hostname = True
        return cls(pool.location, options, context)

    async def connect(self) -> ByteStream:
        if isinstance(self.location, UnixDomainSocketLocation):
            return await anyio.connect_unix(self.location.path)
        host, port = self.location.host, self.location.port
        if self.context is None:
            return await anyio.connect_tcp(host, port)
        return await anyio.connect_tcp(
            host, port, ssl_context=self.context, tls_standard_compatible=False
        )


def lacks_replicas(error: ResponseError) -> bool:
    """Whether a master takes no writes, since ``min-replicas-to-write`` says so."""
    return "NOREPLICAS" in str(error)  # servers before 7.0 wrap what happens in a script


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _value(value: Any) -> bytes | str:
    return value if isinstance(value, bytes) else str(value)
