"""Sessions as records of a store: their keys and their bytes."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

from quart_session.config import SessionConfig
from quart_session.cookie import is_uuid
from quart_session.deadline import deadline
from quart_session.errors import CodecError, SessionTooLarge, StoreError
from quart_session.remains import is_alive, renewed_id
from quart_session.stores.base import Record, Store

if TYPE_CHECKING:
    from blinker import Signal
    from quart import Quart

T = TypeVar("T")

_LOG_KEY = secrets.token_bytes(32)


class Found(NamedTuple):
    """A record, and the session id and the key under which it was found."""

    sid: str
    key: str
    record: Record


class Queue:
    """The saves of one session that wait for each other in one event loop."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.failed_at = float("-inf")
        self.newest: Found | None = None
        """What the save before this one stored. A hint only: by now it may be something else."""


class Records:
    """The records of one application's sessions.

    :param serializer: gives the current serializer, since an application may replace it.
    """

    def __init__(self, store: Store, config: SessionConfig, serializer: Callable[[], Any]) -> None:
        self.store = store
        self._config = config
        self._serializer = serializer
        self._queues: RunVar[WeakValueDictionary[str, Queue]] = RunVar("quart_session_queues")

    def keys_of(self, sid: str) -> list[str]:
        """Where the record of *sid* may lie, the right place first."""
        plain = self._config.key_prefix + sid
        if not self._config.hash_ids:
            return [plain]
        hashed = self._config.key_prefix + sha256(sid.encode()).hexdigest()
        return [hashed, plain] if is_uuid(sid) else [hashed]

    def fingerprint(self, app: Quart, sid: str) -> str:
        """A name of the session for logs, of no use to anybody who wants to be in it."""
        return self._fingerprint(app, sha256(sid.encode()).hexdigest())

    def fingerprint_of(self, app: Quart, key: str) -> str:
        """The same, told from where the session is stored."""
        name = key.removeprefix(self._config.key_prefix)
        return (
            self._fingerprint(app, name) if self._config.hash_ids else self.fingerprint(app, name)
        )

    def _fingerprint(self, app: Quart, hashed_sid: str) -> str:
        secret = app.secret_key or _LOG_KEY
        if isinstance(secret, str):
            secret = secret.encode()
        return hmac.new(
            secret, f"quart-session fingerprint {hashed_sid}".encode(), sha256
        ).hexdigest()[:12]

    async def announce(self, app: Quart, signal: Signal, sid: str, **more: Any) -> None:
        """Tell the receivers of *signal*, if there are any."""
        if signal.receivers:
            await self._tell(app, signal, self.fingerprint(app, sid), more)

    async def announce_key(self, app: Quart, signal: Signal, key: str, **more: Any) -> None:
        """The same for a session of which only the key is known."""
        if signal.receivers:
            await self._tell(app, signal, self.fingerprint_of(app, key), more)

    async def _tell(
        self, app: Quart, signal: Signal, fingerprint: str, more: dict[str, Any]
    ) -> None:
        await signal.send_async(
            app,
            _sync_wrapper=app.ensure_async,  # type: ignore[arg-type]
            fingerprint=fingerprint,
            **more,
        )

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[Queue]:
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
            queue = queues[key] = Queue()
        since = time.monotonic()
        async with queue.lock:
            if since < queue.failed_at:
                raise StoreError("the session store failed the save before this one")
            try:
                yield queue
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

    async def look_up(self, sid: str) -> Found | None:
        """The record of *sid*, or what is left of it; a session that was renewed is found, too.

        Of a renewed session that is gone again, what was left under *sid* is found.
        """
        left: Found | None = None
        keys = self.keys_of(sid)
        # One of version 3 may be moved from the second place to the first between the two looks.
        for key in keys if len(keys) == 1 else [*keys, keys[0]]:
            record = await self.find(key)
            if record is None:
                continue
            if is_alive(record):
                return Found(sid, key, record)
            left = Found(sid, key, record)
            if (new_sid := renewed_id(record.data, sid)) is not None:
                return await self.look_up(new_sid) or left
        return left

    async def remove(self, key: str) -> bool:
        """End a session without a marker, whatever others write to it meanwhile.

        Their saves find nothing then and are dropped. A marker stays: who left it ended the session
        before. Returns whether there was a session.
        """
        record = await self.find(key)
        while is_alive(record):
            conflict = await self.call(self.store.delete(key, record.version))
            if conflict is None:
                return True
            record = conflict.record
        return False

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
