"""Sessions as records of a store: their keys, their bytes, and what is left of a dead one."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from quart_session.config import SessionConfig
from quart_session.cookie import is_uuid
from quart_session.deadline import deadline
from quart_session.errors import CodecError, SessionTooLarge, StoreError
from quart_session.stores.base import Record, Store, Version

if TYPE_CHECKING:
    from blinker import Signal
    from quart import Quart

T = TypeVar("T")

MARKER = b'{"_qs":{"superseded":true}}'
"""What lies for :data:`MARKER_LIFE` seconds under the key of a session that was destroyed or got a
new id. It tells requests that still carry the old id not to begin a session of their own: the
browser has, or is about to get, a newer word than they have."""

VACANT = b'{"_qs":{"vacant":true}}'
"""What lies there as long when a request took the last key out of a session. A request that ran
meanwhile finds it and puts its own changes into an empty session; to others there is none."""

MARKER_LIFE = 10.0

_LOG_KEY = secrets.token_bytes(32)


class _Queue:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.failed_at = float("-inf")


class Records:
    """The records of one application's sessions.

    :param serializer: gives the current serializer, since an application may replace it.
    """

    def __init__(self, store: Store, config: SessionConfig, serializer: Callable[[], Any]) -> None:
        self.store = store
        self._config = config
        self._serializer = serializer
        self._queues: RunVar[WeakValueDictionary[str, _Queue]] = RunVar("quart_session_queues")

    def keys_of(self, sid: str) -> list[str]:
        """Where the record of *sid* may lie, the right place first."""
        plain = self._config.key_prefix + sid
        if not self._config.hash_ids:
            return [plain]
        hashed = self._config.key_prefix + sha256(sid.encode()).hexdigest()
        return [hashed, plain] if is_uuid(sid) else [hashed]

    def looks_for(self, sid: str) -> list[str]:
        """Where to look for the record of *sid*, one after another until it is found.

        Between the two looks for a session of version 3, another request may have moved it.
        """
        keys = self.keys_of(sid)
        return keys if len(keys) == 1 else [*keys, keys[0]]

    def fingerprint(self, app: Quart, sid: str) -> str:
        """A name of the session for logs, of no use to anybody who wants to be in it."""
        key = app.secret_key or _LOG_KEY
        if isinstance(key, str):
            key = key.encode()
        return hmac.new(key, f"quart-session fingerprint {sid}".encode(), sha256).hexdigest()[:12]

    async def announce(self, app: Quart, signal: Signal, sid: str, **more: Any) -> None:
        """Tell the receivers of *signal*, if there are any."""
        if signal.receivers:
            await signal.send_async(
                app,
                _sync_wrapper=app.ensure_async,  # type: ignore[arg-type]
                fingerprint=self.fingerprint(app, sid),
                **more,
            )

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for the other saves of one session in this event loop.

        Without this they would all try at once, and all but one in vain, time after time. When the
        store fails the one in front, those who waited behind it fail as well, lest each of them
        finds out for itself.
        """
        try:
            queues = self._queues.get()
        except LookupError:
            queues = WeakValueDictionary()
            self._queues.set(queues)
        queue = queues.get(key)
        if queue is None:
            queue = queues[key] = _Queue()
        since = time.monotonic()
        async with queue.lock:
            if since < queue.failed_at:
                raise StoreError("the session store failed the save before this one")
            try:
                yield
            except StoreError:
                queue.failed_at = time.monotonic()
                raise

    async def call(self, call: Awaitable[T]) -> T:
        """Wait for the store, but no longer than ``SESSION_TIMEOUT``."""
        store = self.store
        try:
            async with nullcontext() if store.timely else deadline(self._config.timeout):
                return await call
        except TimeoutError as error:
            raise StoreError(
                f"the session store did not answer within {self._config.timeout:g} s"
            ) from error

    async def find(self, key: str) -> Record | None:
        """The record under *key*, be it a session or a marker."""
        return await self.call(self.store.get(key))

    async def find_alive(self, sid: str) -> tuple[str, Record] | None:
        """The key and the record of *sid*, unless it has none or is superseded."""
        for key in self.looks_for(sid):
            record = await self.find(key)
            if is_alive(record):
                return key, record
        return None

    async def remove(self, sid: str, key: str, version: Version) -> None:
        """End a session without a marker, whatever others write to it meanwhile.

        Their saves find nothing then and are dropped. A marker stays: who left it ended the session
        before. One of version 3 may be moving just now, so the other place is looked at last.
        """
        expected: Version | None = version
        for place in [key, *(other for other in self.keys_of(sid) if other != key)]:
            if place != key:
                record = await self.find(place)
                expected = record.version if is_alive(record) else None
            while expected is not None:
                conflict = await self.call(self.store.delete(place, expected))
                record = conflict and conflict.record
                expected = record.version if is_alive(record) else None

    def encode(self, document: Any) -> bytes:
        """:raises CodecError: *document* holds something that cannot be stored."""
        try:
            data = self._serializer().dumps(document)
            return data.encode() if isinstance(data, str) else bytes(data)
        except CodecError:
            raise
        except Exception as error:  # of a serializer that the application chose
            raise CodecError(f"the session cannot be stored: {type(error).__name__}") from error

    def encode_to_store(self, document: Any) -> bytes:
        """:raises SessionTooLarge: the document takes more than ``SESSION_MAX_BYTES``."""
        data = self.encode(document)
        limit = self._config.max_bytes
        if len(data) > limit:
            raise SessionTooLarge(
                f"The session takes {len(data):,} bytes and SESSION_MAX_BYTES allows {limit:,}; "
                "it was not saved"
            )
        return data

    def decode(self, data: bytes) -> dict[Any, Any]:
        """:raises CodecError: *data* is no session document."""
        serializer = self._serializer()
        try:
            wants_str = isinstance(serializer.dumps({}), str)
            document = serializer.loads(data.decode() if wants_str else data)
        except Exception as error:
            raise CodecError("these bytes are no session document") from error
        if not isinstance(document, dict):
            raise CodecError("a session document is an object of JSON, and this is none")
        return document


def is_alive(record: Record | None) -> TypeGuard[Record]:
    """Whether there is a session: not nothing, and not what is left of one."""
    return record is not None and record.data not in (MARKER, VACANT)
