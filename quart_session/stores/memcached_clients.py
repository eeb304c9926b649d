"""Two clients of memcached, aiomcache and emcache, used in one way and safe under cancellation."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from aiomcache import FlagClient

from quart_session.errors import ConfigError, SessionError
from quart_session.stores.memcached_connection import (
    ITEM_SIZE,
    Connection,
    Found,
    Refused,
    Server,
)

if TYPE_CHECKING:
    from asyncio import StreamWriter

T = TypeVar("T")


class Wire(Protocol):
    """What the store asks a server."""

    since: float
    """From this moment on, by ``time.perf_counter()``, it is known to be the same server."""
    item_size: int
    """Bytes that an item may take, with its key and what else belongs to it."""

    async def gets(self, key: bytes) -> Found | None: ...

    async def put(
        self, verb: str, key: bytes, data: bytes, exptime: int, cas: int | None = None
    ) -> bool:
        """``set``, ``add`` or ``cas``; False if there was something else than expected."""

    async def delete(self, key: bytes) -> bool: ...

    async def touch(self, key: bytes, exptime: int) -> bool: ...


class Client(Protocol):
    """A client and its connections."""

    async def use(self, operation: Callable[[Wire], Awaitable[T]]) -> T:
        """Call *operation*; whatever happens, no unread reply is left for the next one.

        :raises Refused: the server said no.
        :raises OSError: or ``EOFError``: the connection broke.
        """

    async def close_idle(self) -> None:
        """Close what may be broken like the connection that just broke."""


def adapt(client: Any) -> Client:
    """:raises ConfigError: *client* is none of the two, or cannot be used as it is."""
    if isinstance(client, FlagClient):
        return Aiomcache(client)
    emcache = sys.modules.get("emcache")  # whoever has a client has imported it
    if emcache is not None and isinstance(client, emcache.Client):
        if getattr(client, "_autobatching", False):
            raise ConfigError(
                "SESSION_MEMCACHED: with autobatching=True emcache loses answers to requests that "
                "come at the same time; make the client without it"
            )
        return Emcache(client)
    raise ConfigError(
        f"SESSION_MEMCACHED = {type(client).__module__}.{type(client).__qualname__} instance: "
        "expected an aiomcache.Client or an emcache.Client"
    )


class Aiomcache:
    """A client of aiomcache, of which the pool of connections is used."""

    def __init__(self, client: FlagClient[Any]) -> None:
        self._client = client
        self._server: Server | None = None
        self._since: WeakKeyDictionary[StreamWriter, float] = WeakKeyDictionary()

    async def use(self, operation: Callable[[Wire], Awaitable[T]]) -> T:
        pool = self._client._pool
        reader, writer = connection = await pool.acquire()
        try:
            if writer.is_closing():  # it broke while it was idle
                raise ConnectionResetError
            since = self._since.setdefault(writer, time.perf_counter())
            wire = Connection(reader, writer, since)
            if self._server is None:
                self._server = await wire.ask_server()
            wire.item_size, wire.meta = self._server
            return await operation(wire)
        except BaseException as error:
            # A reply may still come. The pool closes a connection with an exception.
            reader.set_exception(ConnectionAbortedError())
            writer.transport.abort()
            if isinstance(error, Exception):
                self._server = None  # it may be another one from now on
            raise
        finally:
            pool.release(connection)

    async def close_idle(self) -> None:
        await self._client.close()


class Emcache:
    """A client of emcache. It closes a connection whose command was cancelled, and sends a command
    on any connection to the server that a key belongs to."""

    # No version is older, so no number of a write is trusted: nobody knows which connection it is.
    since = math.inf
    item_size = ITEM_SIZE

    def __init__(self, client: Any) -> None:
        self._client = client
        self._errors = sys.modules["emcache"]

    async def use(self, operation: Callable[[Wire], Awaitable[T]]) -> T:
        try:
            return await operation(self)
        except (OSError, SessionError):
            raise
        except Exception as error:
            raise Refused(error) from error

    async def close_idle(self) -> None:
        """emcache sees for itself which are closed."""

    async def gets(self, key: bytes) -> Found | None:
        item = await self._client.gets(key)
        return None if item is None else Found(bytes(item.value), item.cas)

    async def put(
        self, verb: str, key: bytes, data: bytes, exptime: int, cas: int | None = None
    ) -> bool:
        token = () if cas is None else (cas,)
        return await self._is(getattr(self._client, verb)(key, data, *token, exptime=exptime))

    async def delete(self, key: bytes) -> bool:
        return await self._is(self._client.delete(key))

    async def touch(self, key: bytes, exptime: int) -> bool:
        return await self._is(self._client.touch(key, exptime))

    async def _is(self, command: Awaitable[None]) -> bool:
        try:
            await command
        except (self._errors.NotStoredStorageCommandError, self._errors.NotFoundCommandError):
            return False
        except self._errors.StorageCommandError as error:
            if "NOT_FOUND" in str(error):
                return False
            raise
        return True
