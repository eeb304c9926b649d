"""One connection of aiomcache, spoken to directly.

aiomcache's own commands do harm: one that is cancelled gives its connection back with the reply
still to come, and one whose connection was closed by the server reads on for ever without a turn
for the event loop (https://github.com/aio-libs/aiomcache/issues/502).

The protocol: https://github.com/memcached/memcached/blob/master/doc/protocol.txt
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

ITEM_SIZE = 2**20
"""Bytes that an item may take where the server does not say (its option ``-I``)."""

_META_VALUE = re.compile(rb"VA (?P<size>\d+) k(?P<key>\S+) c(?P<cas>\d+) t(?P<life>-?\d+)")
_VALUE = re.compile(rb"VALUE (?P<key>\S+) \d+ (?P<size>\d+) (?P<cas>\d+)(?P<life>)")


class Refused(Exception):
    """The server said no. The text is the server's, without key and data."""

    def __init__(self, answer: object) -> None:
        reason = re.search(r"(CLIENT_|SERVER_)?ERROR[\w ]*", str(answer))
        super().__init__(reason[0] if reason else "an answer that is no memcached's")


class Found(NamedTuple):
    """A live record."""

    data: bytes
    cas: int
    """Which write of the server this was."""
    expires_in: float | None = None


class Server(NamedTuple):
    """What is asked of a server at first."""

    item_size: int
    meta: bool
    """Whether it has meta commands, as memcached has since 1.6."""


class Connection:
    """Says something to the server and reads what it answers.

    :param since: when it was first used, by ``time.perf_counter()``.
    """

    item_size = ITEM_SIZE
    meta = False

    def __init__(self, reader: StreamReader, writer: StreamWriter, since: float) -> None:
        self.since = since
        self._reader = reader
        self._writer = writer
        self._clean = False

    async def ask_server(self) -> Server:
        item_size = ITEM_SIZE
        line = await self._ask(b"stats settings")
        while line.startswith(b"STAT "):
            if size := re.fullmatch(rb"STAT item_size_max (\d+)", line):
                item_size = int(size[1])
            line = await self._line()
        return Server(item_size, meta=await self._ask(b"mn") == b"MN")

    async def gets(self, key: bytes) -> Found | None:
        if self.meta:
            ask, form, nothing, end = b"mg %b k c t v", _META_VALUE, b"EN", b"\r\n"
        else:
            ask, form, nothing, end = b"gets %b", _VALUE, b"END", b"\r\nEND\r\n"
        line = await self._ask(ask % key)
        if line in (nothing, b"EN k%b" % key):  # some versions give the key back
            return None
        value = form.fullmatch(line)
        if value is None or value["key"] != key:
            raise Refused(line.decode(errors="replace"))
        size = int(value["size"])
        body = await self._reader.readexactly(size + len(end))
        if not body.endswith(end):
            raise Refused("")
        # The first of its seconds may be about to end. -1: it was written without a life.
        life = int(value["life"] or -1) - 1
        return Found(body[:size], int(value["cas"]), life if life >= 0 else None)

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
            raise Refused(line.decode(errors="replace"))
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
                raise Refused(line.decode(errors="replace"))
            if not self._clean:
                raise ConnectionAbortedError("there was a reply to something else")
        return await self._line()

    async def _line(self) -> bytes:
        return (await self._reader.readuntil(b"\r\n"))[:-2]
