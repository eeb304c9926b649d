"""From a URL to a client of redis-py, for one server, a cluster, or a master behind sentinels."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.asyncio import ConnectionPool, Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from quart_session.errors import ConfigError
from quart_session.stores.redis_batches import CONNECTIONS
from quart_session.stores.redis_records import FORMS, has_database


def client_for(url: str, timeout: float) -> Redis | RedisCluster:
    """Make the client for *url*. Connects nowhere.

    :param timeout: seconds that a command may take, with all that belongs to it.
    :raises ConfigError: *url* cannot be read.
    """
    try:
        if not has_database(url):
            raise ValueError
        scheme = urlsplit(url).scheme
        if scheme in ("redis+cluster", "rediss+cluster"):
            refuse_old_clusters()
            return _cluster(url, timeout)
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _behind_sentinels(url, timeout)
        pool = ConnectionPool.from_url(
            url,
            **_options(tls=scheme == "rediss"),
            max_connections=CONNECTIONS,
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        return _checked(Redis.from_pool(pool))
    except ConfigError:
        raise
    except Exception:
        # Their messages may quote the URL, and that may hold a password.
        raise ConfigError(f"SESSION_URI cannot be read: {FORMS}") from None


async def close(client: Redis | RedisCluster) -> None:
    """Close *client* with all that belongs to it."""
    if isinstance(client, Redis):
        # The sentinels have clients of their own.
        manager = getattr(client.connection_pool, "sentinel_manager", None)
        for other in manager.sentinels if manager is not None else ():
            await other.aclose()
    await client.aclose()


def refuse_old_clusters() -> None:
    """:raises ConfigError: this redis-py cannot be trusted with a cluster."""
    version = tuple(int(part) for part in re.findall(r"\d+", redis.__version__)[:3])
    if version < (8, 0, 1):
        raise ConfigError(
            f"Redis Cluster needs redis-py 8.0.1 or newer, this is {redis.__version__}: before "
            "that, each request that is cancelled or cannot reach a node costs a connection"
        )


def _options(tls: bool) -> dict[str, Any]:
    """What all clients have in common, unless the URL says something else."""
    # The deadline and the second attempt are ours.
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    if tls:
        options["ssl_check_hostname"] = True  # redis-py before 6.0 does not by itself
    return options


def _cluster(url: str, timeout: float) -> RedisCluster:
    hosts, _, options = _split(url, 6379)
    options.pop("db", None)
    settings = {
        **_options(tls=options.get("ssl", False)),
        "max_connections": CONNECTIONS,
        # A node that is silent leaves time to ask another one who replaces it.
        "socket_timeout": timeout / 2,
        "socket_connect_timeout": timeout / 4,
        **options,
    }
    return RedisCluster(startup_nodes=[ClusterNode(*host) for host in hosts], **settings)


def _behind_sentinels(url: str, timeout: float) -> Redis:
    hosts, path, options = _split(url, 26379)
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise ConfigError(
            "SESSION_URI lacks the name of the service: redis+sentinel://host:port/service"
        )
    options["db"] = int(database or options.get("db", 0))
    # Each sentinel may be silent, and be asked before the one that answers.
    share = timeout / (len(hosts) + 1)
    to_sentinels = {
        **_options(tls=options.get("ssl", False)),
        "socket_timeout": share,
        "socket_connect_timeout": share,
        **{name: value for name, value in options.items() if name.startswith("ssl")},
        "username": options.pop("sentinel_username", None),
        "password": options.pop("sentinel_password", None),
    }
    settings = {
        **_options(tls=options.get("ssl", False)),
        "max_connections": CONNECTIONS,
        "socket_timeout": None,
        "socket_connect_timeout": timeout / 4,
        **options,
    }
    sentinels: Any = Sentinel
    client: Redis = sentinels(hosts, sentinel_kwargs=to_sentinels, **settings).master_for(service)
    return _checked(client)


def _checked(client: Redis) -> Redis:
    """Look at the options without connecting. :raises Exception: one is wrong."""
    client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    return client


def _split(url: str, port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """The hosts, each with a port, the path, and what redis-py makes of the rest."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    netloc, _, path = rest.partition("/")
    user, at, hosts = netloc.rpartition("@")
    own = {name: value for name, value in parse_qsl(query) if name.startswith("sentinel_")}
    others = urlencode([pair for pair in parse_qsl(query) if pair[0] not in own])
    options: dict[str, Any] = dict(
        parse_url(f"{scheme.partition('+')[0]}://{user}{at}host?{others}")
    )
    del options["host"]
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return [_host(host, port) for host in hosts.split(",")], path, options | own


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError
    return parts.hostname, parts.port or port
