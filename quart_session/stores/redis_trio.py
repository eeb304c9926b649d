"""Sessions in Redis under Trio."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from coredis import Redis, RedisCluster
from coredis.exceptions import (
    ConnectionError,
    NoScriptError,
    RedisClusterError,
    RedisError,
    ResponseError,
    SentinelError,
)

from quart_session.errors import ConfigError, StoreError
from quart_session.redis_trio import RedisTrio
from quart_session.redis_trio.client import Call, lacks_replicas
from quart_session.redis_trio.pooled import PooledClient
from quart_session.stores.redis_records import (
    DEFAULT_URL,
    FORMS,
    RedisRecords,
    UnknownScript,
    has_database,
    refusal,
    without_secrets,
)

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

PAUSE = 0.05
"""Seconds before what cannot work yet is tried again."""

FAILED = (ConnectionError, RedisClusterError, SentinelError, OSError)
"""Errors that may be gone in a moment, where there are several servers."""


class RedisTrioStore(RedisRecords):
    """What ``RedisStore`` is under asyncio, on the same records. Every call is one round trip.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, by default the server of this
        machine; ``redis+cluster://host,host`` or ``redis+sentinel://host,host/service``, each with
        ``rediss`` as well.
    :param client: a ``RedisTrio``, ``coredis.Redis`` or ``coredis.RedisCluster`` to use in place
        of *url*. It is never closed; one of coredis that has not been entered is, while the event
        loop runs.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt.
    :raises ConfigError: *url* or *client* cannot be used.

    .. versionadded:: 4.0
    """

    trio = True
    timely = True

    def __init__(self, url: str | None = None, *, client: Any = None, timeout: float = 1.0) -> None:
        self._url = url or DEFAULT_URL
        self._client = client
        self._timeout = timeout
        self._redis: RedisTrio | PooledClient
        if client is None:
            self._redis = _for_url(self._url, timeout)
        elif isinstance(client, RedisTrio):
            self._redis = client
        elif isinstance(client, Redis | RedisCluster):
            self._redis = PooledClient(lambda: client)
        else:
            raise ConfigError(
                f"SESSION_REDIS = {type(client).__module__}.{type(client).__qualname__} instance: "
                "under Trio it takes a RedisTrio or a client of coredis"
            )

    @classmethod
    def from_config(cls, config: SessionConfig) -> RedisTrioStore:
        """Use ``SESSION_REDIS``, else ``SESSION_URI``, else the server of this machine."""
        return cls(config.uri, client=config.redis, timeout=config.timeout)

    @property
    def backend(self) -> object:
        """The user's client, else a :class:`quart_session.redis_trio.RedisTrio`, or what speaks to
        a cluster or past sentinels."""
        return self._redis if self._client is None else self._client

    async def close(self) -> None:
        if self._client is None:
            await self._redis.close()

    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        # All commands leave here.
        call = Call(args, repeat_with)
        until = time.monotonic() + self._timeout
        try:
            while True:
                try:
                    return await self._redis.ask(call, until - time.monotonic())
                except (RedisError, OSError) as error:
                    if not self._may_pass(error) or until - time.monotonic() < 2 * PAUSE:
                        raise
                    call.repeat()
                    await trio.sleep(PAUSE)
        except TimeoutError as error:
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except NoScriptError as error:
            raise UnknownScript(f"{self._name} has lost a script", call.repeated) from error
        except ResponseError as error:
            raise refusal(self._name, args[0], error) from error
        except (RedisError, OSError) as error:
            # That of a cluster is no more than that no node could be reached.
            reasons = [f"{type(e).__name__}: {e}" for e in (error, error.__cause__) if e]
            raise StoreError(f"{self._name}: {'; '.join(reasons)}") from error
        except RuntimeError as error:
            # That is how Trio puts it.
            if "async context" not in str(error):
                raise
            raise StoreError("this redis store runs under Trio; use RedisStore here") from error

    def _may_pass(self, error: Exception) -> bool:
        """Whether replicas may come back, or another server take the place of one that died."""
        if isinstance(error, ResponseError) and lacks_replicas(error):
            return True
        return self._redis.patient and isinstance(error, FAILED)

    @property
    def _name(self) -> str:
        """What errors call the server; without user and password."""
        if self._client is not None:
            return "the Redis client in SESSION_REDIS"
        return f"Redis at {without_secrets(self._url)}"


def _for_url(url: str, timeout: float) -> RedisTrio | PooledClient:
    try:
        if not has_database(url):
            raise ValueError
        if urlsplit(url).scheme.endswith(("+cluster", "+sentinel")):
            return PooledClient.from_url(url, timeout=timeout)
        return RedisTrio.from_url(url, timeout=timeout)
    except (ValueError, OSError):
        # Their messages may quote the URL, and that may hold a password.
        raise ConfigError(f"SESSION_URI cannot be read: {FORMS}") from None
