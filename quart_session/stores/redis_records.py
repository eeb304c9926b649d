"""Records in Redis: the commands and scripts behind the calls of a store, whatever its client."""

from __future__ import annotations

import math
from abc import abstractmethod
from hashlib import sha1
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from quart_session.errors import StoreError
from quart_session.stores.base import (
    ANY,
    Conflict,
    Expect,
    Record,
    Store,
    Version,
    digest,
)

DEFAULT_URL = "redis://localhost:6379"

FORMS = """expected one of
  redis://host:port/0, rediss:// for TLS, unix:///path/to/socket
  redis+cluster://host:port,host:port, rediss+cluster://
  redis+sentinel://host:port,host:port/service/0, rediss+sentinel://
where 0 is the number of a database, with user:password@ before the hosts, in which / ? # % @ are
written %2F %3F %23 %25 %40, and options such as ?ssl_ca_certs=file behind"""

RIGHTS = "+get +set +del +pexpire +pttl +eval +evalsha"
"""What an ACL has to allow, for keys that begin with ``SESSION_KEY_PREFIX``."""

RIGHTS_IN_CLUSTER = "+cluster|slots +command +asking"
"""What it has to allow besides in a cluster."""

# Past this nobody lives to see the difference, and the sum with today fits the server's 64 bits.
LONGEST = 10**15  # milliseconds


class _Script(NamedTuple):
    source: str
    sha: str


def _script(source: str) -> _Script:
    return _Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


# Each script names one key, as Redis Cluster wants it. A value of another type is not a record of
# ours, so it reads as nothing; any other error is one. A record is {data, milliseconds left}.
_READ = """
local data = redis.pcall('GET', KEYS[1])
if type(data) == 'table' then
  if not string.find(data.err, 'WRONGTYPE') then return data end
  data = false
end
"""
GET = _script(f"""{_READ}
if not data then return false end
return {{data, redis.call('PTTL', KEYS[1])}}
""")
# ARGV: data, milliseconds, the version that is expected or '' for none, and whether this is a
# repetition: then our own data is as good, since the first attempt may have written it. 1 or what
# is there.
SET = _script(f"""{_READ}
local ours = ARGV[4] and data == ARGV[1]
if not ours and (data and redis.sha1hex(data) or '') ~= ARGV[3] then
  return data and {{data, redis.call('PTTL', KEYS[1])}}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
# ARGV: the version that is expected, or '' for none.
DELETE = _script(f"""{_READ}
if data and redis.sha1hex(data) ~= ARGV[1] then
  return {{data, redis.call('PTTL', KEYS[1])}}
end
redis.call('DEL', KEYS[1])
return 1
""")


class UnknownScript(StoreError):
    """The server is new or was restarted, and has not seen this script.

    :param repeated: this was a second attempt, and another server may have run the first.
    """

    def __init__(self, message: str, repeated: bool = False) -> None:
        super().__init__(message)
        self.repeated = repeated


class RedisRecords(Store):
    """Whatever a store in Redis does but send: its subclass has the client."""

    @abstractmethod
    async def _command(self, *args: Any, repeat_with: tuple[Any, ...] = ()) -> Any:
        """Send one command and return its answer: bytes, an integer, ``None`` or a list of these.

        :param repeat_with: arguments to add in a second attempt, when the first may have been
            carried out unseen.
        :raises UnknownScript: the server does not know the script of an ``EVALSHA``.
        :raises StoreError: anything else that failed.
        """

    async def get(self, key: str) -> Record | None:
        return _record(await self._run(GET, key))

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        life = _milliseconds(ttl)
        if expected is ANY:
            await self._command("SET", key, data, "PX", life)
            return digest(data)
        answer = await self._run(SET, key, data, life, _wire(expected), repeat_with=("again",))
        return digest(data) if answer == 1 else Conflict(_record(answer))

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        if expected is ANY:
            await self._command("DEL", key)
            return None
        answer = await self._run(DELETE, key, _wire(expected))
        return None if answer == 1 else Conflict(_record(answer))

    async def touch(self, key: str, ttl: float) -> bool:
        return bool(await self._command("PEXPIRE", key, _milliseconds(ttl)))

    async def _run(
        self, script: _Script, key: str, *args: Any, repeat_with: tuple[Any, ...] = ()
    ) -> Any:
        try:
            return await self._command(
                "EVALSHA", script.sha, 1, key, *args, repeat_with=repeat_with
            )
        except UnknownScript as error:
            if error.repeated:
                args += repeat_with
        # EVAL makes the server remember the script.
        return await self._command("EVAL", script.source, 1, key, *args, repeat_with=repeat_with)


def has_database(url: str) -> bool:
    """Whether *url* says the number of a database, 0 in a cluster, or none.

    Clients take anything else for number 0.
    """
    parts = urlsplit(url)
    kind, path = parts.scheme.partition("+")[2], parts.path.strip("/")
    if kind == "sentinel":
        path = path.partition("/")[2]
    if kind == "cluster":
        return path in ("", "0")
    return parts.scheme == "unix" or not path or path.isdecimal()


def without_secrets(url: str) -> str:
    """What of *url* may be shown in an error."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def refusal(server: str, command: str, error: Exception) -> StoreError:
    """What to tell of a server that refused a *command*, and what to do about it."""
    # Some servers repeat the arguments, and those are keys and data.
    reason, _, arguments = str(error).partition(", with args")
    hint = ""
    if "permission" in reason or "can't run this command" in reason:
        hint = (
            f"; the user needs {RIGHTS}, in a cluster also {RIGHTS_IN_CLUSTER}, "
            "and ~session:* or what SESSION_KEY_PREFIX is"
        )
    if arguments:
        error.args = (reason,)
    return StoreError(f"{server} refused {command}: {type(error).__name__}: {reason}{hint}")


def _milliseconds(ttl: float) -> int:
    return max(1, math.ceil(min(ttl * 1000, LONGEST)))


def _wire(expected: Expect | Version) -> bytes:
    return b"" if isinstance(expected, Expect) else expected


def _record(answer: Any) -> Record | None:
    if answer is None:
        return None
    data, milliseconds = answer
    # -1: the key was made without a life, by somebody else.
    return Record(data, digest(data), milliseconds / 1000 if milliseconds >= 0 else None)
