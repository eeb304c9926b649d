"""Sessions in Redis, or in what speaks its protocol."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from quart_session.errors import ConfigError, StoreError
from quart_session.stores.redis_batches import (
    Batches,
    Call,
    Way,
    WayBehindSentinels,
    WayThroughCluster,
    WayThroughPool,
)
from quart_session.stores.redis_clients import (
    client_for,
    close,
    refuse_old_clusters,
)
from quart_session.stores.redis_records import (
    DEFAULT_URL,
    RedisRecords,
    UnknownScript,
    refusal,
    without_secrets,
)

if TYPE_CHECKING:
    from quart_session.config import SessionConfig


class _Client(NamedTuple):
    redis: Redis | RedisCluster
    batches: Batches


class RedisStore(RedisRecords):
    """Keeps each record as a plain value, which expires by itself. Every call is one round trip.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, by default the server of this
        machine; ``redis+cluster://host,host`` or ``redis+sentinel://host,host/service``, each with
        ``rediss`` as well. Arguments of redis-py's connections may follow,
        ``?max_connections=10``.
    :param client: a ``redis.asyncio`` client, ``Redis`` or ``RedisCluster``, to use in place of
        *url*, whatever its options. It belongs to the one event loop where it is used, and is
        never closed.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt. The wait for one of the connections counts only while the server answers
        nobody, so many callers at once are no outage.
    :raises ConfigError: *url* or *client* cannot be used.

    .. versionadded:: 4.0
    """

    timely = True

    def __init__(self, url: str | None = None, *, client: Any = None, timeout: float = 1.0) -> None:
        self._url = url or DEFAULT_URL
        self._client = client
        self._timeout = timeout
        # An asyncio client works in one event loop only.
        self._clients: dict[asyncio.AbstractEventLoop, _Client] = {}
        if client is None:
            client_for(self._url, timeout)  # says what is wrong with the URL; connects nowhere
        else:
            _check(client)
            # As in version 3, where the cache gave what the client gives.
            self.gives_bytes = not client.get_encoder().decode_responses

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
        if client is None:
            return
        await client.batches.finish()
        if client.redis is not self._client:
            # A connection that is broken already has nothing to tell.
            with suppress(RedisError, OSError):
                await close(client.redis)

    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        batches = self._running_client().batches
        call = Call(args, repeat_with)
        try:
            return await batches.ask(call)
        except TimeoutError as error:
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except NoScriptError as error:
            raise UnknownScript(f"{self._name} has lost a script", call.repeated) from error
        except ResponseError as error:
            raise refusal(self._name, args[0], error) from error
        except MasterNotFoundError as error:
            # It shows the options of each client, which may be secrets.
            message, _, clients = str(error).partition(" : ")
            reasons = sorted(set(re.findall(r"> - ([\w:]+)", clients)))
            reasons = [f"the sentinels: {', '.join(reasons)}"] if reasons else []
            raise StoreError("; ".join([f"{self._name}: {message}", *reasons])) from None
        except (RedisError, RedisClusterException, OSError) as error:
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
        return f"Redis at {without_secrets(self._url)}"

    def _running_client(self) -> _Client:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise StoreError(
                "this redis store does not run under Trio; RedisTrioStore does"
            ) from error
        client = self._clients.get(loop)
        if client is None:
            # A loop that ended without a call of close() is not kept alive by its client.
            for other in list(self._clients):
                if other.is_closed():
                    self._clients.pop(other, None)
            redis = self._client or client_for(self._url, self._timeout)
            client = self._clients[loop] = _Client(redis, Batches(_way(redis), self._timeout))
        return client


def _way(redis: Redis | RedisCluster) -> Way:
    if isinstance(redis, RedisCluster):
        return WayThroughCluster(redis)
    if isinstance(redis.connection_pool, SentinelConnectionPool):
        return WayBehindSentinels(redis)
    return WayThroughPool(redis)


def _check(client: object) -> None:
    """:raises ConfigError: *client* cannot be used."""
    if isinstance(client, RedisCluster):
        refuse_old_clusters()
    elif not isinstance(client, Redis):
        hint = "; take what its master_for() gives" if isinstance(client, Sentinel) else ""
        raise ConfigError(
            f"SESSION_REDIS = {type(client).__module__}.{type(client).__qualname__} instance: "
            f"expected a client of redis.asyncio, Redis or RedisCluster{hint}"
        )
