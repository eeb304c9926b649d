"""Sessions in Redis, or in what speaks its protocol."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError

from quart_session.deadline import Patience, deadline
from quart_session.errors import ConfigError, StoreError
from quart_session.stores.redis_records import RedisRecords, UnknownScript

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

DEFAULT_URL = "redis://localhost:6379"

# One process is served no faster by more of them; `?max_connections=` in the URL changes it.
CONNECTIONS = 16


class _Client(NamedTuple):
    redis: Any
    turn: AbstractAsyncContextManager[None]
    """What to wait for before a command, so that all get their turn in order. redis-py's own
    blocking pool is not fair: at 64 callers some wait for a second while others go round."""


class _Pool(ConnectionPool):
    """A pool that knows a connection which was reset while it was idle.

    redis-py sees only those that were closed in order, and would write to the others. asyncio of
    Python 3.12 and 3.13.0 then watches a file number that soon belongs to something else, which
    hangs.
    """

    async def ensure_connection(self, connection: Any) -> None:
        writer = connection._writer
        if writer is not None and writer.is_closing():
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class RedisStore(RedisRecords):
    """Keeps each record as a plain value, which expires by itself. Every call is one round trip.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, by default the server of this
        machine. Arguments of redis-py's connections may follow, ``?max_connections=10``.
    :param client: a ``redis.asyncio`` client to use in place of *url*, whatever its options. It
        belongs to the one event loop where it is used, and is never closed.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt. The wait for one of the connections counts only while the server answers
        nobody, so many callers at once are no outage.
    :raises ConfigError: *url* or *client* cannot be used.

    .. versionadded:: 4.0
    """

    timely: ClassVar[bool] = True

    def __init__(self, url: str | None = None, *, client: Any = None, timeout: float = 1.0) -> None:
        if client is not None and not iscoroutinefunction(getattr(client, "execute_command", None)):
            raise ConfigError(
                f"SESSION_REDIS = {type(client).__module__}.{type(client).__qualname__} instance: "
                "expected a client of redis.asyncio"
            )
        self._url = url or DEFAULT_URL
        self._client = client
        self._timeout = timeout
        self._patience = Patience(timeout)
        # An asyncio client works in one event loop only.
        self._clients: dict[asyncio.AbstractEventLoop, _Client] = {}
        if client is None:
            self._make_client()  # says what is wrong with the URL; connects nowhere

    @classmethod
    def from_config(cls, config: SessionConfig) -> RedisStore:
        """Use ``SESSION_REDIS``, else ``SESSION_URI``, else the server of this machine."""
        return cls(config.uri, client=config.redis, timeout=config.timeout)

    @property
    def backend(self) -> object:
        """The ``redis.asyncio`` client: the user's, or that of the running event loop, if any."""
        try:
            return self._running_client().redis
        except StoreError:
            return self._client

    async def close(self) -> None:
        try:
            client = self._clients.pop(asyncio.get_running_loop(), None)
        except RuntimeError:  # Trio, where nothing can have been opened
            return
        if client is not None:
            # A connection that is broken already has nothing to tell.
            with suppress(RedisError, OSError):
                await client.redis.aclose()

    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        # All commands leave here. Each has a second attempt if its connection broke, as connections
        # do that a server or a firewall closed while they were idle.
        client, turn = self._running_client()
        began = time.monotonic()
        try:
            async with turn:
                # The clock for all of it: redis-py's own time-outs are for each single step.
                async with deadline(self._patience.left(began)):
                    try:
                        answer = await client.execute_command(*args, **{NEVER_DECODE: True})
                    except ConnectionError:
                        answer = await client.execute_command(
                            *args, *repeat_with, **{NEVER_DECODE: True}
                        )
                self._patience.answered()
                return answer
        except TimeoutError as error:
            self._patience.timed_out()
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except NoScriptError as error:
            raise UnknownScript(f"{self._name} has lost a script") from error
        except ResponseError as error:
            # Some servers repeat the arguments, and those are keys and data.
            reason, _, arguments = str(error).partition(", with args")
            raise StoreError(
                f"{self._name} refused {args[0]}: {type(error).__name__}: {reason}"
            ) from (None if arguments else error)
        except (RedisError, OSError) as error:
            raise StoreError(f"{self._name}: {type(error).__name__}: {error}") from error
        except RuntimeError as error:
            # That is how asyncio puts it.
            if self._client is None:
                raise
            raise StoreError(
                f"{self._name} was used in another event loop before; it works in one only. "
                "Make it in the loop that serves, or set SESSION_URI in its place"
            ) from error

    @property
    def _name(self) -> str:
        """What errors call the server; without user and password."""
        if self._client is not None:
            return "the Redis client in SESSION_REDIS"
        parts = urlsplit(self._url)
        address = parts.netloc.rpartition("@")[2]
        return f"Redis at {parts.scheme}://{address}{parts.path}"

    def _running_client(self) -> _Client:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise StoreError(
                "the redis store runs under asyncio; it does not support Trio yet"
            ) from error
        if self._client is not None:
            return _Client(self._client, nullcontext())
        client = self._clients.get(loop)
        if client is None:
            # A loop that ended without a call of close() is not kept alive by its client.
            for other in list(self._clients):
                if other.is_closed():
                    self._clients.pop(other, None)
            client = self._clients[loop] = self._make_client()
        return client

    def _make_client(self) -> _Client:
        try:
            pool = _Pool.from_url(
                self._url,
                max_connections=CONNECTIONS,
                socket_timeout=None,  # _command has the clock
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
            # Looks at the options; connects nowhere.
            pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError):
            # Their messages may quote the URL, and that may hold a password.
            raise ConfigError(
                "SESSION_URI cannot be read: expected redis://host:port/database, "
                "rediss://host:port/database or unix:///path/to/socket, "
                "with user:password@ before the host and redis-py's options after a ?"
            ) from None
        return _Client(Redis.from_pool(pool), asyncio.Semaphore(pool.max_connections))
