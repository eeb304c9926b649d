"""From a URI to a client of pymongo, and what may be told of either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from quart_session.errors import ConfigError

# One process is served no faster by more of them; `?maxPoolSize=` in the URI changes it.
CONNECTIONS = 16

Client = AsyncMongoClient[dict[str, Any]]


def client_for(uri: str, kwargs: Mapping[str, Any], timeout: float) -> Client:
    """Make the client for *uri*. Connects nowhere.

    :param kwargs: further arguments; these and the URI's options go before our defaults.
    :param timeout: seconds that a command may take, with all that belongs to it.
    :raises ConfigError: *uri* or *kwargs* cannot be read.
    """
    milliseconds = timeout * 1000
    defaults: dict[str, Any] = {
        "maxPoolSize": CONNECTIONS,
        "maxConnecting": CONNECTIONS,
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
    }
    try:
        named = {name.lower() for name in (*parse_qs(urlsplit(uri).query), *kwargs)}
        options = {name: value for name, value in defaults.items() if name.lower() not in named}
        return AsyncMongoClient(uri, **options, **kwargs)
    except (PyMongoError, ValueError, TypeError):
        # Their messages may quote the URI, and that may hold a password.
        raise ConfigError(
            "SESSION_MONGODB_URI, SESSION_URI or SESSION_MONGODB_CLIENT_KWARGS cannot be read: "
            "expected mongodb://host:port/database or mongodb+srv://name/database, with "
            "user:password@ before the host, each percent-encoded, and pymongo's options after a ? "
            "or in the arguments"
        ) from None


def hosts_of(uri: str) -> str:
    """What of *uri* may be shown in an error."""
    hosts = re.split("[/?]", uri.rpartition("://")[2])[0]
    return hosts.rpartition("@")[2]


def reason_of(error: Exception) -> str:
    """What pymongo says, without its time-outs and all that it knows of each server."""
    return re.sub(r" \(configured timeouts:[^)]*\)|, Timeout: .*", "", str(error))


def reasons_of(client: Client) -> list[str]:
    """Why servers of *client* cannot be reached."""
    servers = client.topology_description.server_descriptions().values()
    return [reason_of(server.error) for server in servers if server.error is not None]
