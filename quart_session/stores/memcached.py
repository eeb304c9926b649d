"""Sessions in memcached."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from aiomcache import Client, FlagClient

from quart_session.deadline import Patience, deadline
from quart_session.errors import ConfigError, SessionError, SessionTooLarge, StoreError
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

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

    from quart_session.config import SessionConfig

T = TypeVar("T")

HOST, PORT = "127.0.0.1", 11211

# aiomcache opens all of them at once; `?max_connections=` in the URL changes it.
CONNECTIONS = 8

# The protocol: https://github.com/memcached/memcached/blob/master/doc/protocol.txt
LONGEST_SPAN = 30 * 86400
"""Seconds; a larger number is a date."""

LAST_DATE = 2**31 - 1
"""In 2038; a later one counts as gone by."""

NEVER = 0
PAST = LONGEST_SPAN + 1
"""A date in 1970: a record that is written with it is gone at once. memcached has no conditional
delete, but a conditional write."""

LONGEST_KEY = 250
ITEM_SIZE = 2**20
"""Bytes that an item may take where the server does not say (its option ``-I``)."""

OVERHEAD = 64
"""Bytes, at most, that an item takes besides its key and data."""


class _Refused(Exception):
    """The server said no. The text is the server's, without key and data."""

    def __init__(self, answer: object) -> None:
        reason = re.search(r"(CLIENT_|SERVER_)?ERROR[\w ]*", str(answer))
        super().__init__(reason[0] if reason else "an answer that is no memcached's")


class _Found(NamedTuple):
    data: bytes
    cas: int
    """Which write of the server this was."""
    expires_in: float | None = None


class _Seen(bytes):
    """A version that remembers as which write the server knows it, for a save in one round trip.

    A server that was restarted counts its writes from 1 again. So the number is good only on a
    connection that is older than the read: whoever answers there has not been restarted since.
    """

    cas: int
    newest: int
    """The newest connection that there was before the read."""

    @classmethod
    def of(cls, found: _Found, newest: int) -> _Seen:
        seen = cls(digest(found.data))
        seen.cas, seen.newest = found.cas, newest
        return seen


class _Wire(Protocol):
    """What the store asks a server, whichever client carries it."""

    number: int
    """Connections are numbered in their order, all of this process together."""
    item_size: int

    async def gets(self, key: bytes) -> _Found | None: ...

    async def put(
        self, verb: str, key: bytes, data: bytes, exptime: int, cas: int | None = None
    ) -> bool:
        """``set``, ``add`` or ``cas``; False if there was something else than expected."""

    async def delete(self, key: bytes) -> bool: ...

    async def touch(self, key: bytes, exptime: int) -> bool: ...


class _Client(Protocol):
    """A client and its connections."""

    async def use(self, operation: Callable[[_Wire], Awaitable[T]]) -> T:
        """Call *operation*; whatever happens, no unread reply is left for the next one."""

    async def close_idle(self) -> None:
        """Close what may be broken like the connection that just broke."""


_numbers = count(1)
_newest = 0


class _Server(NamedTuple):
    """What is asked of a server at first."""

    item_size: int
    meta: bool
    """Whether it has meta commands, as memcached has since 1.6."""


_META_VALUE = re.compile(rb"VA (?P<size>\d+) k(?P<key>\S+) c(?P<cas>\d+) t(?P<life>-?\d+)")
_VALUE = re.compile(rb"VALUE (?P<key>\S+) \d+ (?P<size>\d+) (?P<cas>\d+)(?P<life>)")


class _Connection:
    """One connection of aiomcache, spoken to directly.

    aiomcache's own commands do harm: one that is cancelled gives its connection back with the reply
    still to come, and one whose connection was closed by the server reads on for ever without a
    turn for the event loop (https://github.com/aio-libs/aiomcache/issues/502).
    """

    item_size = ITEM_SIZE
    meta = False

    def __init__(self, reader: StreamReader, writer: StreamWriter, number: int) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer
        self._clean = False

    async def ask_server(self) -> _Server:
        item_size = ITEM_SIZE
        line = await self._ask(b"stats settings")
        while line.startswith(b"STAT "):
            if size := re.fullmatch(rb"STAT item_size_max (\d+)", line):
                item_size = int(size[1])
            line = await self._line()
        return _Server(item_size, meta=await self._ask(b"mn") == b"MN")

    async def gets(self, key: bytes) -> _Found | None:
        if self.meta:
            ask, form, nothing, end = b"mg %b k c t v", _META_VALUE, b"EN", b"\r\n"
        else:
            ask, form, nothing, end = b"gets %b", _VALUE, b"END", b"\r\nEND\r\n"
        line = await self._ask(ask % key)
        if line in (nothing, b"EN k%b" % key):  # some versions give the key back
            return None
        value = form.fullmatch(line)
        if value is None or value["key"] != key:
            raise _Refused(line.decode(errors="replace"))
        size = int(value["size"])
        body = await self._reader.readexactly(size + len(end))
        if not body.endswith(end):
            raise _Refused("")
        # The first of its seconds may be about to end. -1: it was written without a life.
        life = int(value["life"] or -1) - 1
        return _Found(body[:size], int(value["cas"]), life if life >= 0 else None)

    async def put(
        self, verb: str, key: bytes, data: bytes, exptime: int, cas: int | None = None
    ) -> bool:
        unique = b"" if cas is None else b" %d" % cas
        head = b"%b %b 0 %d %d%b\r\n" % (verb.encode(), key, exptime, len(data), unique)
        return await self._is(b"STORED", head + data)

    async def delete(self, key: bytes) -> bool:
        return await self._is(b"DELETED", b"delete %b" % key)

    async def touch(self, key: bytes, exptime: int) -> bool:
        return await self._is(b"TOUCHED", b"touch %b %d" % (key, exptime))

    async def _is(self, success: bytes, request: bytes) -> bool:
        line = await self._ask(request)
        if line not in (success, b"NOT_STORED", b"EXISTS", b"NOT_FOUND"):
            raise _Refused(line.decode(errors="replace"))
        return line == success

    async def _ask(self, request: bytes) -> bytes:
        # Somebody else's cancelled command may have left a reply in it; the version says where ours
        # begin.
        self._writer.write(b"%b%b\r\n" % (b"" if self._clean else b"version\r\n", request))
        await self._writer.drain()
        if not self._clean:
            line = await self._line()
            self._clean = line.startswith(b"VERSION ")
            if b"ERROR" in line:
                raise _Refused(line.decode(errors="replace"))
            if not self._clean:
                raise ConnectionAbortedError("there was a reply to something else")
        return await self._line()

    async def _line(self) -> bytes:
        return (await self._reader.readuntil(b"\r\n"))[:-2]


class _Aiomcache:
    """A client of aiomcache, of which the pool of connections is used."""

    def __init__(self, client: FlagClient[Any]) -> None:
        self._client = client
        self._server: _Server | None = None
        self._numbers: WeakKeyDictionary[StreamWriter, int] = WeakKeyDictionary()

    async def use(self, operation: Callable[[_Wire], Awaitable[T]]) -> T:
        pool = self._client._pool
        reader, writer = connection = await pool.acquire()
        try:
            if writer.is_closing():  # it broke while it was idle
                raise ConnectionResetError
            wire = _Connection(reader, writer, self._number(writer))
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

    def _number(self, writer: StreamWriter) -> int:
        global _newest
        number = self._numbers.get(writer)
        if number is None:
            number = self._numbers[writer] = _newest = next(_numbers)
        return number

    async def close_idle(self) -> None:
        await self._client.close()


class _Emcache:
    """A client of emcache. It closes a connection whose command was cancelled, and sends a command
    on any connection to the server that a key belongs to."""

    # No version is older than this connection, so no saved number is trusted.
    number = sys.maxsize
    item_size = ITEM_SIZE

    def __init__(self, client: Any) -> None:
        self._client = client
        self._errors = sys.modules["emcache"]

    async def use(self, operation: Callable[[_Wire], Awaitable[T]]) -> T:
        try:
            return await operation(self)
        except (OSError, SessionError):
            raise
        except Exception as error:
            raise _Refused(error) from error

    async def close_idle(self) -> None:
        """emcache sees for itself which are closed."""

    async def gets(self, key: bytes) -> _Found | None:
        item = await self._client.gets(key)
        return None if item is None else _Found(bytes(item.value), item.cas)

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
        self._given: _Client | None = None if client is None else _wrap(client)
        self._backend = client
        self._timeout = timeout
        self._patience = Patience(timeout)
        # A client works in one event loop only.
        self._home: asyncio.AbstractEventLoop | None = None
        self._clients: dict[asyncio.AbstractEventLoop, _Own] = {}

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
            return self._backend
        try:
            return self._running_client().client
        except StoreError:
            return None

    async def close(self) -> None:
        try:
            own = self._clients.pop(asyncio.get_running_loop(), None)
        except RuntimeError:  # Trio, where nothing can have been opened
            return
        if own is not None:
            await own.client.close()
            await asyncio.sleep(0)  # that is when the connections close

    async def get(self, key: str) -> Record | None:
        async def get(wire: _Wire, again: bool) -> Record | None:
            return await _read(wire, _wire_key(key))

        return await self._run("get", get)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        return await self._run("set", partial(_write, key, data, _exptime(ttl), expected))

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        async def delete(wire: _Wire, again: bool) -> Conflict | None:
            await wire.delete(_wire_key(key))
            return None

        if expected is ANY:
            return await self._run("delete", delete)
        answer = await self._run("delete", partial(_write, key, b"", PAST, expected))
        return answer if isinstance(answer, Conflict) and answer.record else None

    async def touch(self, key: str, ttl: float) -> bool:
        async def touch(wire: _Wire, again: bool) -> bool:
            return await wire.touch(_wire_key(key), _exptime(ttl))

        return await self._run("touch", touch)

    async def _run(self, name: str, operation: Callable[[_Wire, bool], Awaitable[T]]) -> T:
        """Do *operation* on a connection. All commands leave here.

        It has a second attempt, and is told so, if its connection broke, as connections do that a
        server or a firewall closed while they were idle.
        """
        client, turn = self._running()
        began = time.monotonic()
        try:
            async with turn:
                async with deadline(self._patience.left(began)):
                    try:
                        answer = await client.use(lambda wire: operation(wire, False))
                    except (OSError, EOFError):
                        await client.close_idle()
                        answer = await client.use(lambda wire: operation(wire, True))
                self._patience.answered()
                return answer
        except TimeoutError as error:
            self._patience.timed_out()
            raise StoreError(f"{self._name}: no answer within {self._timeout:g} s") from error
        except _Refused as error:
            raise StoreError(f"{self._name} refused to {name}: {error}") from error.__cause__
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise StoreError(f"{self._name}: {type(error).__name__}: {error}") from error
        except RuntimeError as error:
            # That is how asyncio puts it.
            if self._given is None:
                raise
            raise StoreError(self._elsewhere) from error

    @property
    def _name(self) -> str:
        """What errors call the server."""
        if self._given is not None:
            return "the memcached client in SESSION_MEMCACHED"
        return f"memcached at {self._host}:{self._port}"

    @property
    def _elsewhere(self) -> str:
        return (
            f"{self._name} was used in another event loop before; it works in one only. "
            "Make it in the loop that serves, or set SESSION_URI in its place"
        )

    def _running(self) -> tuple[_Client, AbstractAsyncContextManager[None]]:
        if self._given is None:
            own = self._running_client()
            return own.commands, own.turn
        loop = _running_loop()
        if self._home is None:
            self._home = loop
        if self._home is not loop:
            raise StoreError(self._elsewhere)
        return self._given, nullcontext()

    def _running_client(self) -> _Own:
        loop = _running_loop()
        own = self._clients.get(loop)
        if own is None:
            # A loop that ended without a call of close() is not kept alive by its client.
            for other in list(self._clients):
                if other.is_closed():
                    self._clients.pop(other, None)
            client = Client(self._host, self._port, pool_size=self._size)
            own = _Own(client, _Aiomcache(client), asyncio.Semaphore(self._size))
            self._clients[loop] = own
        return own


class _Own(NamedTuple):
    """The client of one event loop."""

    client: Client
    commands: _Client
    turn: AbstractAsyncContextManager[None]
    """What to wait for before a command. aiomcache's own queue forgets callers when a connection
    breaks."""


async def _read(wire: _Wire, key: bytes) -> Record | None:
    newest = _newest
    found = await wire.gets(key)
    return None if found is None else Record(found.data, _Seen.of(found, newest), found.expires_in)


async def _write(
    name: str, data: bytes, exptime: int, expected: Expect | Version, wire: _Wire, again: bool
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
    if isinstance(expected, _Seen) and wire.number <= expected.newest and not again:
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


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise StoreError("the memcached store runs under asyncio; it does not support Trio") from (
            error
        )


def _wrap(client: Any) -> _Client:
    if isinstance(client, FlagClient):
        return _Aiomcache(client)
    emcache = sys.modules.get("emcache")  # whoever has a client has imported it
    if emcache is not None and isinstance(client, emcache.Client):
        if getattr(client, "_autobatching", False):
            raise ConfigError(
                "SESSION_MEMCACHED: with autobatching=True emcache loses answers to requests that "
                "come at the same time; make the client without it"
            )
        return _Emcache(client)
    raise ConfigError(
        f"SESSION_MEMCACHED = {type(client).__module__}.{type(client).__qualname__} instance: "
        "expected an aiomcache.Client or an emcache.Client"
    )


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
