"""Sessions in Redis under Trio."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import trio
from coredis import Redis, RedisCluster
from coredis.commands import CommandRequest
from coredis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError
from coredis.retry import NoRetryPolicy
from coredis.typing import Key

from quart_session.errors import ConfigError, StoreError
from quart_session.redis_trio import RedisTrio
from quart_session.redis_trio.client import Call
from quart_session.redis_trio.hosting import Hosted, patiently
from quart_session.stores.redis_records import RedisRecords, UnknownScript

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

DEFAULT_URL = "redis://localhost:6379"


class RedisTrioStore(RedisRecords):
    """What ``RedisStore`` is under asyncio, on the same records. Every call is one round trip.

    :param url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, by default the server of this
        machine.
    :param client: a ``RedisTrio``, ``coredis.Redis`` or ``coredis.RedisCluster`` to use in place
        of *url*. It is never closed; one of coredis that has not been entered is, while the event
        loop runs.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt.
    :raises ConfigError: *url* or *client* cannot be used.

    .. versionadded:: 4.0
    """

    trio: ClassVar[bool] = True
    timely: ClassVar[bool] = True

    def __init__(self, url: str | None = None, *, client: Any = None, timeout: float = 1.0) -> None:
        self._url = url or DEFAULT_URL
        self._client = client
        self._timeout = timeout
        self._redis: RedisTrio | _Guest
        if client is None:
            self._redis = _from_url(self._url)
        elif isinstance(client, RedisTrio):
            self._redis = client
        elif isinstance(client, Redis | RedisCluster):
            self._redis = _Guest(client)
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
        """The user's client, else a :class:`quart_session.redis_trio.RedisTrio`."""
        return self._redis if self._client is None else self._client

    async def close(self) -> None:
        if self._client is None:
            await self._redis.close()

    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        # All commands leave here.
        call = Call(args, repeat_with)
        try:
            return await self._redis.ask(call, self._timeout)
        except TimeoutError as error:
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except NoScriptError as error:
            raise UnknownScript(f"{self._name} has lost a script", call.repeated) from error
        except ResponseError as error:
            # Some servers repeat the arguments, and those are keys and data.
            reason, _, arguments = str(error).partition(", with args")
            raise StoreError(
                f"{self._name} refused {args[0]}: {type(error).__name__}: {reason}"
            ) from (None if arguments else error)
        except (RedisError, OSError) as error:
            raise StoreError(f"{self._name}: {type(error).__name__}: {error}") from error
        except RuntimeError as error:
            # That is how Trio puts it.
            if "async context" not in str(error):
                raise
            raise StoreError("this redis store runs under Trio; use RedisStore here") from error

    @property
    def _name(self) -> str:
        """What errors call the server; without user and password."""
        if self._client is not None:
            return "the Redis client in SESSION_REDIS"
        parts = urlsplit(self._url)
        address = parts.netloc.rpartition("@")[2]
        return f"Redis at {parts.scheme}://{address}{parts.path}"


class _Guest:
    """A client of coredis that the user made.

    Its pool loses the place of a connection whose making is cancelled, so commands run in tasks
    of their own. It does not repeat them by itself, since scripts must know that.
    """

    def __init__(self, client: Redis[Any] | RedisCluster[Any]) -> None:
        kind = RedisCluster if isinstance(client, RedisCluster) else Redis
        self._client: Any = kind(
            connection_pool=client.connection_pool,  # type: ignore[arg-type]
            retry_policy=NoRetryPolicy(),
        )
        self._pool: Any = client.connection_pool
        self._entered: trio.lowlevel.RunVar[Hosted | None] = trio.lowlevel.RunVar("coredis", None)

    async def close(self) -> None: ...

    async def ask(self, call: Call, seconds: float) -> Any:
        return await patiently(seconds, Hosted(partial(self._answer, call)).result)

    async def _answer(self, call: Call, *, task_status: object) -> Any:
        await self._enter()
        try:
            return await self._request(call.command)
        except ConnectionError as error:
            if isinstance(self._client, RedisCluster):
                await self._client.on_retry_error(error)  # looks for the nodes anew
        call.repeat()
        return await self._request(call.command)

    def _request(self, command: tuple[Any, ...]) -> CommandRequest[Any]:
        name, *arguments = command
        at = 2 if name.startswith("EVAL") else 0
        arguments[at] = Key(arguments[at])  # tells a cluster's client where to go
        request: CommandRequest[Any] = self._client.create_request(
            name.encode(),
            *arguments,
            callback=lambda answer: answer,
            execution_parameters={"decode": False},
        )
        return request

    async def _enter(self) -> None:
        hosted = self._entered.get()
        if hosted is None or hosted.ended.is_set():
            try:
                self._pool.task_group  # noqa: B018
                return  # the user has entered it
            except RuntimeError:
                pass
            hosted = Hosted(self._stay)
            self._entered.set(hosted)
        await hosted.start()

    async def _stay(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with AsyncExitStack() as stack:
            if sentinels := getattr(self._pool, "sentinel_manager", None):
                await stack.enter_async_context(sentinels)
            await stack.enter_async_context(self._pool)
            task_status.started()
            await trio.sleep_forever()


def _from_url(url: str) -> RedisTrio:
    try:
        return RedisTrio.from_url(url)
    except (ValueError, OSError):
        # Their messages may quote the URL, and that may hold a password.
        raise ConfigError(
            "SESSION_URI cannot be read: expected redis://host:port/database, "
            "rediss://host:port/database or unix:///path/to/socket, "
            "with user:password@ before the host and options such as ?ssl_ca_certs=file behind"
        ) from None
