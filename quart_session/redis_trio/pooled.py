"""Clients of coredis: for clusters, for masters behind sentinels, and those of the user."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import trio
from coredis import ClusterConnectionPool, Redis, RedisCluster, Sentinel
from coredis.commands import CommandRequest
from coredis.exceptions import ConnectionError, ReadOnlyError, ResponseError, SentinelError
from coredis.retry import NoRetryPolicy
from coredis.typing import Key

from quart_session.deadline import deadline
from quart_session.redis_trio.client import Call, Server, lacks_replicas
from quart_session.redis_trio.hosting import Hosted


class PooledClient:
    """A client of coredis for each event loop.

    :param make: returns a new client, or the one that the user made. It is entered, unless the
        user has done that.
    """

    def __init__(self, make: Callable[[], Redis[Any] | RedisCluster[Any]]) -> None:
        client = make()  # says what is wrong; connects nowhere
        self.patient = isinstance(client, RedisCluster) or hasattr(
            client.connection_pool, "sentinel_manager"
        )
        """Whether another server may take the place of the one that does not answer."""
        self._make = make
        self._house: trio.lowlevel.RunVar[_House | None] = trio.lowlevel.RunVar("coredis", None)

    @classmethod
    def from_url(cls, url: str, *, timeout: float) -> PooledClient:
        """Make one for ``redis+cluster://`` or ``redis+sentinel://``, or with ``rediss``.

        :param timeout: seconds that a node may be silent.
        :raises ValueError: *url* cannot be read.
        """
        scheme, _, kind = urlsplit(url).scheme.partition("+")
        make: Callable[[], Redis[Any] | RedisCluster[Any]]
        if kind == "cluster":
            make = _cluster(scheme, url, timeout)
        else:
            make = _behind_sentinels(scheme, url, timeout)
        return cls(make)

    async def close(self) -> None:
        """Leave the client of the running event loop. The next command takes another."""
        house = self._house.get()
        self._house.set(None)
        if house is not None:
            await house.close()

    async def ask(self, call: Call, seconds: float) -> Any:
        """Send a command and return its answer, as :meth:`RedisTrio.ask` does."""
        house = self._house.get()
        if house is None:
            house = _House(self._make())
            self._house.set(house)
        try:
            async with deadline(seconds):
                return await house.answer(call)
        except TimeoutError:
            house.drop_connections()
            raise


class _House:
    """Where one client lives. It does not repeat commands by itself, since scripts must know."""

    def __init__(self, client: Redis[Any] | RedisCluster[Any]) -> None:
        self._pool: Any = client.connection_pool
        kind: Any = RedisCluster if isinstance(client, RedisCluster) else Redis
        self._client = kind(connection_pool=_Pool(self._pool), retry_policy=NoRetryPolicy())
        self._stay_inside: Hosted | None = None

    async def answer(self, call: Call) -> Any:
        await self._enter()
        try:
            return await self._request(call.command)
        except ReadOnlyError:  # a master that became a replica
            self.drop_connections()
        except ResponseError as error:
            if lacks_replicas(error):  # a master that was replaced may not know it
                self.drop_connections()
            raise
        except ConnectionError as error:
            self._look_for_nodes(error)
        call.repeat()
        return await self._request(call.command)

    def drop_connections(self) -> None:
        # coredis keeps those on which nothing comes.
        self._pool.disconnect()
        self._look_for_nodes(ConnectionError("silent"))

    def _look_for_nodes(self, error: Exception) -> None:
        if isinstance(self._client, RedisCluster):
            self._pool.cluster_layout.report_errors(None, error)

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
        if self._stay_inside is None or self._stay_inside.ended.is_set():
            try:
                self._pool.task_group  # noqa: B018
                return  # the user has entered it
            except RuntimeError:
                self._stay_inside = Hosted(self._stay)
        await self._stay_inside.start()

    async def _stay(self, *, task_status: trio.TaskStatus[None]) -> None:
        # coredis wants the same task to enter and to leave.
        async with AsyncExitStack() as stack:
            if sentinels := getattr(self._pool, "sentinel_manager", None):
                await stack.enter_async_context(sentinels)
            await stack.enter_async_context(self._pool)
            task_status.started()
            await trio.sleep_forever()

    async def close(self) -> None:
        if self._stay_inside is not None:
            self._stay_inside.cancel()
            await self._stay_inside.ended.wait()


class _Pool:
    """A pool that survives the cancellation of those who wait for it.

    Those of coredis lose the place of a connection whose making is cancelled, of one for which
    sentinels named no server, and of one that broke while somebody had it.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        wanted = True
        connection: Any = None

        async def get(*, task_status: object) -> Any:
            nonlocal connection
            try:
                connection = await self._pool.get_connection(*args, **options)
            except SentinelError:
                self._pool._available_connections.append_nowait(None)
                raise
            if not wanted:
                self.release(connection)
            return connection

        try:
            return await Hosted(get).result()
        except BaseException:
            wanted = False
            if connection is not None:  # it came in the same turn as the cancellation
                self.release(connection)
            raise

    def release(self, connection: Any) -> None:
        self._pool.release(connection)
        if not connection.usable:
            if isinstance(self._pool, ClusterConnectionPool):
                places = self._pool._node_pool(connection.location)
            else:
                places = self._pool._available_connections
            if not places.full():
                places.append_nowait(None)


def _cluster(scheme: str, url: str, timeout: float) -> Callable[[], RedisCluster[Any]]:
    servers, _, _ = _split(scheme, url, 6379)
    options = {**servers[0].options, "ssl_context": servers[0].context}
    options.pop("db", None)
    options.pop("client_name", None)
    nodes: Any = [server.location for server in servers]
    return lambda: RedisCluster(
        startup_nodes=nodes, stream_timeout=timeout, connect_timeout=timeout, **options
    )


def _behind_sentinels(scheme: str, url: str, timeout: float) -> Callable[[], Redis[Any]]:
    servers, path, own = _split(scheme, url, 26379)
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the service is missing")
    # Each sentinel may be silent, and be asked before the one that answers.
    patience = timeout / (len(servers) + 1)
    context = servers[0].context
    to_sentinels = {
        "stream_timeout": patience,
        "connect_timeout": patience,
        "ssl_context": context,
        "username": own.get("sentinel_username"),
        "password": own.get("sentinel_password"),
    }
    options = {**servers[0].options, "ssl_context": context}
    options["db"] = int(database or options.get("db") or 0)
    locations: Any = [server.location for server in servers]
    return lambda: Sentinel(
        locations,
        sentinel_kwargs=dict(to_sentinels),
        stream_timeout=timeout,
        connect_timeout=timeout,
        **options,
    ).primary_for(service)


def _split(scheme: str, url: str, port: int) -> tuple[list[Server], str, dict[str, str]]:
    """The servers, the path, and the options that are about sentinels themselves."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    given = parse_qsl(parts.query)
    own = {name: value for name, value in given if name.startswith("sentinel_")}
    others = urlencode([pair for pair in given if pair[0] not in own])
    servers = []
    for host in hosts.split(","):
        address = host if urlsplit(f"//{host}").port else f"{host}:{port}"
        servers.append(Server.from_url(f"{scheme}://{user}{at}{address}?{others}"))
    return servers, parts.path, own
