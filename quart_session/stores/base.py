"""The contract between the session interface and a backend.

A store keeps opaque bytes under string keys, each with a life of its own. The interface owns the
session id, the key prefix, the lifetime, the codec and the cookie; a store sees none of them.

* ``get`` answers ``None`` for a key that is absent, expired or unreadable as a record of this
  store. It never extends a life and never writes on behalf of the caller.
* An error means that the system failed, never that a key is missing. A store raises
  :class:`~quart_session.errors.StoreError` from its client's error.
* ``open`` and ``close`` may be called any number of times. A store opens itself at its first use
  and keeps one client for each event loop, so that it works under any server and in any test.
* A call that is cancelled leaves the old record or the new one, and a client that still works.
* Keys are any text that UTF-8 can spell, and data any bytes, which come back exactly.
* Every store runs under asyncio; a store that runs under Trio as well says so with ``trio = True``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

__all__ = ["ABSENT", "ANY", "Conflict", "Expect", "Record", "Store", "Version", "digest"]


class Expect(Enum):
    """What a conditional write expects to find, when that is not a version."""

    ANY = "any"
    ABSENT = "absent"


ANY = Expect.ANY
"""Write whatever is there."""

ABSENT = Expect.ABSENT
"""Write only if there is no live record."""

Version: TypeAlias = bytes
"""Opaque to the caller. Equal versions mean equal data; :func:`digest` makes a good one."""


def digest(data: bytes) -> Version:
    """Return a version for *data*: its SHA-1 in hex.

    A store that uses it needs no room beside the data, any process and any server-side script can
    compute it, and a write whose answer got lost recognises itself when it is tried again.
    """
    # Not for secrecy: a collision could only mislead the one who made both documents himself.
    return sha1(data, usedforsecurity=False).hexdigest().encode()


class Record(NamedTuple):
    """A live record, as it was read."""

    data: bytes
    version: Version
    expires_in: float | None
    """Seconds of life left; ``None`` where the backend cannot tell."""

    def __repr__(self) -> str:
        # Without the data, which must not get into a log.
        return f"<Record of {len(self.data)} bytes, expires_in={self.expires_in}>"


class Conflict(NamedTuple):
    """A conditional call that changed nothing because it did not find what it expected."""

    record: Record | None
    """What is there instead; ``None``: nothing, the record is gone."""


class Store(ABC):
    """A backend. Subclass it, then prove it with :class:`quart_session.testing.StoreContract`.

    .. versionadded:: 4.0
    """

    trio: bool = False
    """Whether this store also runs under Trio."""

    timely: bool = False
    """Whether every call ends within ``SESSION_TIMEOUT`` by itself, with a ``StoreError`` if need
    be. The interface watches the clock for the others."""

    evicts: bool = False
    """Whether records may go before their time, as in a cache. Such a store cannot tell for sure
    which sessions a user has."""

    gives_bytes: bool = False
    """Whether the interface, used as a cache, gives bytes for any value, not str for text."""

    @classmethod
    def from_config(cls, config: SessionConfig) -> Store:
        """Make the store that the application's configuration describes. Does no I/O.

        :raises ConfigError: a setting is wrong or the client library is not installed.
        """
        return cls()

    @property
    def backend(self) -> object:
        """The client that this store talks through, for applications that use it directly."""
        return None

    async def open(self) -> None:  # noqa: B027 -- optional
        """Make the client for the running event loop. Not needed before other calls."""

    async def close(self) -> None:  # noqa: B027 -- optional
        """Release what :meth:`open` took for the running event loop. A later call opens again.

        A client that the user passed in is left alone.
        """

    @abstractmethod
    async def get(self, key: str) -> Record | None:
        """Return the live record under *key*, or ``None``."""

    @abstractmethod
    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        """Write *data* with a life of *ttl* seconds (> 0; a coarser backend rounds up).

        Returns the new version, or a :class:`Conflict` if *expected* is not what is there.
        The comparison and the write are one step that nothing can come between.
        """

    @abstractmethod
    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        """Remove *key*. Removing nothing succeeds.

        Returns a :class:`Conflict` if *expected* is a version and another one is there. What is
        gone already needs no removing, so there the answer is ``None`` whatever was expected.
        """

    @abstractmethod
    async def touch(self, key: str, ttl: float) -> bool:
        """Give the live record *ttl* seconds from now. Never changes its version.

        Returns False, and brings nothing back, if there is no live record. It can shorten a life.
        """

    async def purge_expired(self) -> int:
        """Remove all expired records; return how many.

        A store whose backend removes them itself returns 0. The others also remove a few at each
        write, so that nobody has to call this.
        """
        return 0
