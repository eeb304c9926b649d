"""Sessions in memcached."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

import aiomcache

from quart_session.deadline import Patience, deadline
from quart_session.errors import ConfigError, SessionTooLarge, StoreError
from quart_session.stores.base import (
    ABSENT,
    ANY,
    Conflict,
    Expect,
    Record,
    Store,
    Version,
    digest,
)
from quart_session.stores.memcached_clients import Client, Wire, adapt
from quart_session.stores.memcached_connection import Found, Refused
from quart_session.stores.per_loop import PerLoop, used_in_another

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

T = TypeVar("T")

HOST, PORT = "127.0.0.1", 11211

# aiomcache opens all of them at once; `?max_connections=` in the URL changes it.
CONNECTIONS = 8

LONGEST_SPAN = 30 * 86400
"""Seconds; a larger number is a date."""

LAST_DATE = 2**31 - 1
"""In 2038; a later one counts as gone by."""

NEVER = 0
PAST = LONGEST_SPAN + 1
"""A date in 1970: a record that is written with it is gone at once. memcached has no conditional
delete, but a conditional write."""

LONGEST_KEY = 250

OVERHEAD = 64
"""Bytes, at most, that an item takes besides its key and data."""


class _Seen(bytes):
    """A version that remembers as which write the server knows it, for a save in one round trip.

    A server that was restarted counts its writes from 1 again. So the number is good only on a
    connection that is older than the read: whoever answers there has not been restarted since.
    """

    cas: int
    asked_at: float
    """When the read began, by ``time.perf_counter()``."""

    @classmethod
    def of(cls, found: Found, asked_at: float) -> _Seen:
        seen = cls(digest(found.data))
        seen.cas, seen.asked_at = found.cas, asked_at
        return seen


class _InOneLoop(NamedTuple):
    """What one event loop has."""

    client: Any
    commands: Client
    turn: AbstractAsyncContextManager[None]
    """What to wait for before a command."""


class MemcachedStore(Store):
    """Keeps each record as a plain value, which expires by itself.

    memcached keeps everything in memory and drops what was not used for longest when that is full:
    such sessions end, as all do when the server stops.

    A read, a write, and a write on the condition that nothing changed since the read are one round
    trip each. The last is two if the connection is newer than the read, and always with emcache.

    The server's clock ticks once a second, so a record lives up to two seconds longer than it was
    told to. Where that is more than 30 days the server is told a date, so both clocks must agree;
    past January 2038, which is as far as the server counts, a record has no end.

    :param url: ``memcached://host:port``, by default the server of this machine. It may end in
        ``?max_connections=16``.
    :param client: an ``aiomcache.Client`` or ``emcache.Client`` to use in place of *url*. It
        belongs to the one event loop where it is used, and is never closed.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt. The wait for one of the connections counts only while the server answers
        nobody, so many callers at once are no outage.
    :raises ConfigError: *url* or *client* cannot be used.

    .. versionadded:: 4.0
    """

    timely = True

    evicts = True

    gives_bytes = True

    def __init__(self, url: str | None = None, *, client: Any = None, timeout: float = 1.0) -> None:
        self._host, self._port, self._size = _parse(url or f"memcached://{HOST}:{PORT}")
        self._given = client
        self._commands = None if client is None else adapt(client)
        self._timeout = timeout
        self._patience = Patience(timeout)
        # Where the user's client was used first.
        self._home: asyncio.AbstractEventLoop | None = None
        self._clients = PerLoop(
            self._make_client, "the memcached store runs under asyncio; it does not support Trio"
        )

    @classmethod
    def from_config(cls, config: SessionConfig) -> MemcachedStore:
        """Use ``SESSION_MEMCACHED``, else ``SESSION_URI``, else ``SESSION_MEMCACHED_HOST`` and
        ``SESSION_MEMCACHED_PORT``."""
        url = config.uri
        if url is None:
            host = config.memcached_host
            if ":" in host:  # IPv6
                host = f"[{host}]"
            url = f"memcached://{host}:{config.memcached_port}"
        return cls(url, client=config.memcached, timeout=config.timeout)

    @property
    def backend(self) -> object:
        """The client: the user's, or the ``aiomcache.Client`` of the running event loop, if any."""
        if self._given is not None:
            return self._given
        try:
            return self._clients.get().client
        except StoreError:
            return None

    async def close(self) -> None:
        mine = self._clients.take()
        if mine is not None and self._given is None:
            await mine.client.close()
            await asyncio.sleep(0)  # that is when the connections close

    async def get(self, key: str) -> Record | None:
        return await self._run("get", lambda wire, again: _read(wire, _wire_key(key)))

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        return await self._run("set", partial(_write, key, data, _exptime(ttl), expected))

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        if expected is ANY:
            await self._run("delete", lambda wire, again: wire.delete(_wire_key(key)))
            return None
        answer = await self._run("delete", partial(_write, key, b"", PAST, expected))
        return answer if isinstance(answer, Conflict) and answer.record else None

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._run(
            "touch", lambda wire, again: wire.touch(_wire_key(key), _exptime(ttl))
        )

    async def _run(self, name: str, operation: Callable[[Wire, bool], Awaitable[T]]) -> T:
        """Do *operation* on a connection. All commands leave here.

        It has a second attempt, and is told so, if its connection broke, as connections do that a
        server or a firewall closed while they were idle.
        """
        _, commands, turn = self._clients.get()
        began = time.monotonic()
        try:
            async with turn:
                async with deadline(self._patience.left(began)):
                    try:
                        answer = await commands.use(lambda wire: operation(wire, False))
                    except (OSError, EOFError):
                        await commands.close_idle()
                        answer = await commands.use(lambda wire: operation(wire, True))
                self._patience.answered()
                return answer
        except TimeoutError as error:
            self._patience.timed_out()
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except Refused as error:
            raise StoreError(f"{self._name} refused to {name}: {error}") from error.__cause__
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise StoreError(f"{self._name}: {type(error).__name__}: {error}") from error
        except RuntimeError as error:
            # That is how asyncio puts it.
            if self._given is None:
                raise
            raise used_in_another(self._name, "SESSION_URI") from error

    @property
    def _name(self) -> str:
        """What errors call the server."""
        if self._given is not None:
            return "the memcached client in SESSION_MEMCACHED"
        return f"memcached at {self._host}:{self._port}"

    def _make_client(self) -> _InOneLoop:
        if self._commands is None:
            client = aiomcache.Client(self._host, self._port, pool_size=self._size)
            # aiomcache's own queue forgets callers when a connection breaks.
            return _InOneLoop(client, adapt(client), asyncio.Semaphore(self._size))
        loop = asyncio.get_running_loop()
        self._home = self._home or loop
        if self._home is not loop:
            raise used_in_another(self._name, "SESSION_URI")
        return _InOneLoop(self._given, self._commands, nullcontext())


async def _read(wire: Wire, key: bytes) -> Record | None:
    now = time.perf_counter()
    found = await wire.gets(key)
    return None if found is None else Record(found.data, _Seen.of(found, now), found.expires_in)


async def _write(
    name: str, data: bytes, exptime: int, expected: Expect | Version, wire: Wire, again: bool
) -> Version | Conflict:
    """Write *data* if *expected* is there. The first attempt may have written it (*again*)."""
    key = _wire_key(name)
    # The server would remove the old record and not write the new one.
    if len(key) + len(data) + OVERHEAD > wire.item_size:
        raise SessionTooLarge(
            f"The session takes {len(data):,} bytes and memcached's items at most "
            f"{wire.item_size:,} (its option -I); it was not saved"
        )
    version = digest(data)
    if expected is ANY:
        if not await wire.put("set", key, data, exptime):  # as a proxy may say
            raise StoreError("memcached did not store a record")
        return version
    cas = None
    if isinstance(expected, _Seen) and wire.since < expected.asked_at and not again:
        cas = expected.cas
    while True:
        if cas == 0:
            raise StoreError("memcached must not run with its option -C: it would count no writes")
        if expected is ABSENT:
            stored = await wire.put("add", key, data, exptime)
        else:
            stored = cas is not None and await wire.put("cas", key, data, exptime, cas)
        if stored:
            return version
        record = await _read(wire, key)
        if record is None:
            if expected is ABSENT:  # it has gone since
                continue
            return Conflict(None)
        if again and record.version == version:
            return version
        if record.version != expected:
            return Conflict(record)
        assert isinstance(record.version, _Seen)
        cas = record.version.cas


def _parse(url: str) -> tuple[str, int, int]:
    """Host, port and number of connections."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        (size,) = options.pop("max_connections", [str(CONNECTIONS)])
        wrong = parts.scheme != "memcached" or parts.path not in ("", "/") or options
        if wrong or "@" in parts.netloc or parts.fragment or int(size) < 1:
            raise ValueError
        return parts.hostname or HOST, parts.port or PORT, int(size)
    except ValueError:
        # Without the URL, which may hold a password that is of no use here.
        raise ConfigError(
            "SESSION_URI cannot be read: expected memcached://host:port, with "
            "?max_connections= and a number if need be. TLS, a user, a Unix socket or several "
            "servers need an emcache.Client in SESSION_MEMCACHED"
        ) from None


# What memcached and its clients take, as version 3 sent it.
_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_HASHED = "sha256:"


def _wire_key(key: str) -> bytes:
    """The key itself where it is one of memcached's, else a hash."""
    wire = key.encode(errors="surrogatepass")
    if len(wire) <= LONGEST_KEY and _PLAIN.fullmatch(key) and not key.startswith(_HASHED):
        return wire
    return f"{_HASHED}{sha256(wire).hexdigest()}".encode()


def _exptime(ttl: float) -> int:
    # One more, since the tick that ends the first second may be about to come.
    seconds = math.ceil(min(ttl, LAST_DATE)) + 1
    if seconds <= LONGEST_SPAN:
        return seconds
    date = int(time.time()) + seconds
    return date if date <= LAST_DATE else NEVER
