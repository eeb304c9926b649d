"""Sessions in Redis, or in what speaks its protocol."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from quart_session.errors import ConfigError, StoreError
from quart_session.stores.per_loop import PerLoop, used_in_another
from quart_session.stores.redis_batches import Batches, Call
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
from quart_session.stores.redis_ways import way_to

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
        self._clients = PerLoop(
            self._make_client, "this redis store does not run under Trio; RedisTrioStore does"
        )
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
            return self._clients.get().redis
        except StoreError:
            return self._client

    async def close(self) -> None:
        client = self._clients.take()
        if client is None:
            return
        await client.batches.finish()
        if client.redis is not self._client:
            # A connection that is broken already has nothing to tell.
            with suppress(RedisError, OSError):
                await close(client.redis)

    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        batches = self._clients.get().batches
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
            raise used_in_another(self._name, "SESSION_URI") from error

    @property
    def _name(self) -> str:
        """What errors call the server; without user and password."""
        if self._client is not None:
            return "the Redis client in SESSION_REDIS"
        return f"Redis at {without_secrets(self._url)}"

    def _make_client(self) -> _Client:
        redis = self._client or client_for(self._url, self._timeout)
        return _Client(redis, Batches(way_to(redis), self._timeout))


def _check(client: object) -> None:
    """:raises ConfigError: *client* cannot be used."""
    if type(client).__module__.partition(".")[0] == "fakeredis":
        raise ConfigError(
            "SESSION_REDIS: fakeredis does not run the scripts that sessions need; for tests there "
            'is SESSION_TYPE = "memory"'
        )
    if isinstance(client, RedisCluster):
        refuse_old_clusters()
    elif not isinstance(client, Redis):
        hint = "; take what its master_for() gives" if isinstance(client, Sentinel) else ""
        raise ConfigError(
            f"SESSION_REDIS = {type(client).__module__}.{type(client).__qualname__} instance: "
            f"expected a client of redis.asyncio, Redis or RedisCluster{hint}"
        )
