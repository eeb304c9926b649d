"""Sessions in MongoDB."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pymongo
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidName,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from quart_session.deadline import Patience, deadline
from quart_session.errors import ConfigError, StoreError
from quart_session.stores.base import ABSENT, ANY, Conflict, Expect, Record, Store, Version, digest
from quart_session.stores.mongodb_clients import (
    Client,
    client_for,
    hosts_of,
    reason_of,
    reasons_of,
)
from quart_session.stores.mongodb_documents import (
    LONGEST,
    VERSION_3,
    id_of,
    moment,
    read,
    readable,
    to_text,
)
from quart_session.stores.per_loop import PerLoop, used_in_another

if TYPE_CHECKING:
    from quart_session.config import SessionConfig

T = TypeVar("T")
Sessions = AsyncCollection[dict[str, Any]]
Callback = Callable[[dict[str, Any]], object]

logger = logging.getLogger("quart_session")

DEFAULT_URI = "mongodb://localhost:27017"
DATABASE = "quart_session"
COLLECTION = "sessions"


class _Client:
    """What one event loop has."""

    def __init__(self, mongo: Client, collection: str) -> None:
        self.mongo = mongo
        # Ids that are UUIDs are found whatever the client was told about them.
        options: CodecOptions[dict[str, Any]] = mongo.codec_options.with_options(
            uuid_representation=UuidRepresentation.STANDARD
        )
        database = mongo.get_default_database(default=DATABASE)
        self.sessions = database.get_collection(collection, codec_options=options)
        self.turn = asyncio.Semaphore(int(min(mongo.options.pool_options.max_pool_size, 10**6)))
        self.removes_expired = False
        self.at_work: set[asyncio.Task[Any]] = set()

    def done(self, work: asyncio.Task[Any]) -> None:
        self.at_work.discard(work)
        if not work.cancelled():
            work.exception()  # now it was looked at, if its caller has gone


class MongoDBStore(Store):
    """Keeps each record as a document, which can be queried and which MongoDB removes in the end.

    A read, a write, a conditional write and a touch are one round trip each; a conflict is two, and
    so is a touch that finds nothing. :mod:`quart_session.stores.mongodb_documents` says what a
    document holds. The clocks of all machines must agree, to the second or so.

    :param uri: ``mongodb://`` or ``mongodb+srv://``, by default the server of this machine. It
        names the database, by default ``quart_session``, and options of pymongo may follow.
    :param client: a ``pymongo.AsyncMongoClient`` to use in place of *uri*. It belongs to the one
        event loop where it is used, and is never closed.
    :param collection: its name.
    :param client_kwargs: further arguments of the client that is made.
    :param set_callback: is called before each write with the document so far, ``{"data": ...}``,
        and may add fields to it. What it changes in ``data`` changes no session.
    :param timeout: seconds that a call may take, with all that belongs to it: a new connection, a
        second attempt. The wait for one of the connections counts only while the server answers
        nobody, so many callers at once are no outage.
    :raises ConfigError: *uri*, *client* or *client_kwargs* cannot be used.

    .. versionadded:: 4.0
    """

    timely = True

    def __init__(
        self,
        uri: str | None = None,
        *,
        client: Any = None,
        collection: str = COLLECTION,
        client_kwargs: Mapping[str, Any] | None = None,
        set_callback: Callback | None = None,
        timeout: float = 1.0,
    ) -> None:
        if client is not None and not isinstance(client, AsyncMongoClient):
            raise ConfigError(
                f"SESSION_MONGODB = {type(client).__module__}.{type(client).__qualname__} "
                "instance: expected a pymongo.AsyncMongoClient"
            )
        self._uri = uri or DEFAULT_URI
        self._client = client
        self._collection = collection
        self._client_kwargs = dict(client_kwargs or {})
        self._callback = set_callback
        self._timeout = timeout
        self._patience = Patience(timeout)
        self._clients = PerLoop(
            self._make_client, "the mongodb store runs under asyncio; pymongo has no Trio"
        )
        if client is None:
            self._make_client()  # says what is wrong with the URI; connects nowhere

    @classmethod
    def from_config(cls, config: SessionConfig) -> MongoDBStore:
        """Use ``SESSION_MONGODB``, else ``SESSION_MONGODB_URI``, else ``SESSION_URI``."""
        return cls(
            config.mongodb_uri or config.uri,
            client=config.mongodb,
            collection=config.mongodb_collection,
            client_kwargs=config.mongodb_client_kwargs,
            set_callback=config.mongodb_set_callback,
            timeout=config.timeout,
        )

    @property
    def backend(self) -> object:
        """The ``AsyncMongoClient``: the user's, or that of the running event loop, if any."""
        try:
            return self._clients.get().mongo
        except StoreError:
            return self._client

    async def close(self) -> None:
        client = self._clients.take()
        if client is not None:
            await asyncio.gather(*client.at_work, return_exceptions=True)
            if self._client is None:
                await client.mongo.close()

    async def get(self, key: str) -> Record | None:
        async def find(sessions: Sessions, again: bool) -> Record | None:
            return await _find(sessions, id_of(key))

        return await self._call(find)

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        where = {"_id": id_of(key)}
        version = digest(data)
        document: dict[str, Any] = {"data": readable(data)}
        if self._callback is not None:
            self._callback(document)
            document.pop("_id", None)

        async def write(sessions: Sessions, again: bool) -> Version | Conflict:
            while True:
                now = time.time()
                fields = {
                    **document,
                    "bytes": data,
                    "version": to_text(version),
                    "expires": moment(now + min(ttl, LONGEST)),
                }
                create = isinstance(expected, Expect)
                try:
                    result = await sessions.update_one(
                        where | _condition(expected, now), {"$set": fields}, upsert=create
                    )
                    if result.matched_count or result.upserted_id is not None:
                        return version
                except DuplicateKeyError:
                    if not create:  # it is about an index of somebody else
                        raise
                found = await _find(sessions, where["_id"])
                # The first attempt may have written it, and its answer got lost.
                if again and found is not None and found.version == version:
                    return version
                if expected not in (ANY, ABSENT if found is None else found.version):
                    return Conflict(found)

        return await self._call(write)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        where = {"_id": id_of(key)}

        async def remove(sessions: Sessions, again: bool) -> Conflict | None:
            while True:
                condition = _condition(expected, time.time())
                result = await sessions.delete_one(where | condition)
                if result.deleted_count or expected is ANY:
                    return None
                found = await _find(sessions, where["_id"])
                if found is None:
                    return None
                if found.version != expected:
                    return Conflict(found)

        return await self._call(remove)

    async def touch(self, key: str, ttl: float) -> bool:
        async def extend(sessions: Sessions, again: bool) -> bool:
            now = time.time()
            life = {"$set": {"expires": moment(now + min(ttl, LONGEST))}}
            # Version 3 wrote no end of a life.
            for alive in ({"$gt": moment(now)}, {"$exists": False}):
                where = {"_id": id_of(key), "expires": alive}
                if (await sessions.update_one(where, life)).matched_count:
                    return True
            return False

        return await self._call(extend)

    async def _call(self, call: Callable[[Sessions, bool], Awaitable[T]]) -> T:
        """Make *call* with the collection. All commands leave here."""
        client = self._clients.get()
        began = time.monotonic()
        try:
            async with client.turn:
                seconds = self._patience.left(began)
                async with deadline(seconds):
                    # It comes before pymongo's time-out, unless the event loop was held up.
                    answer = await self._attempts(client, call, 1.1 * seconds)
            self._patience.answered()
            return answer
        except TimeoutError as error:
            self._patience.timed_out()
            reasons = [f"no answer within {self._timeout:g} s", *reasons_of(client.mongo)]
            raise StoreError(f"{self._name}: {'; '.join(reasons)}") from error
        except ConnectionFailure as error:
            if isinstance(error, ServerSelectionTimeoutError):
                self._patience.timed_out()
            raise StoreError(f"{self._name}: {type(error).__name__}: {reason_of(error)}") from error
        except OperationFailure as error:
            # Its text repeats keys and data.
            code = (error.details or {}).get("codeName", "no name")
            raise StoreError(
                f"{self._name} refused it: {type(error).__name__}, code {error.code} ({code})"
            ) from None
        except ConfigurationError as error:  # a name of mongodb+srv that DNS does not know
            raise StoreError(f"{self._name}: {error}") from error
        except (PyMongoError, BSONError, OverflowError) as error:
            # Without its text, which repeats the document.
            raise StoreError(
                f"{self._name}: {type(error).__name__}: the session is larger than a document may "
                "be, or SESSION_MONGODB_SET_CALLBACK has added what MongoDB cannot hold"
            ) from None
        except RuntimeError as error:
            if self._client is None:
                raise
            raise used_in_another(self._name, "SESSION_MONGODB_URI") from error

    async def _attempts(
        self, client: _Client, call: Callable[[Sessions, bool], Awaitable[T]], seconds: float
    ) -> T:
        """Make *call*, with a second attempt, of which it is told, if its connection broke.

        Connections do that which a server or a firewall closed while they were idle. No attempt
        begins once the caller has gone.
        """
        began = time.monotonic()
        try:
            return await self._attempt(client, call, False, seconds)
        except ServerSelectionTimeoutError:
            raise
        except (AutoReconnect, ExecutionTimeout):
            left = began + seconds - time.monotonic()
            return await self._attempt(client, call, True, left if left > 0 else seconds)

    async def _attempt(
        self,
        client: _Client,
        call: Callable[[Sessions, bool], Awaitable[T]],
        again: bool,
        seconds: float,
    ) -> T:
        async def work() -> T:
            with pymongo.timeout(seconds):
                if not client.removes_expired:
                    await self._remove_expired(client)
                return await call(client.sessions, again)

        # pymongo loses connections when it is cancelled: let it end.
        task = asyncio.create_task(work())
        client.at_work.add(task)
        task.add_done_callback(client.done)
        return await asyncio.shield(task)

    async def _remove_expired(self, client: _Client) -> None:
        """Let MongoDB remove what has expired."""
        try:
            await client.sessions.create_index("expires", expireAfterSeconds=0)
        except OperationFailure as error:
            # No reason to fail: a read sees for itself what has expired.
            logger.warning(
                "%s does not remove expired sessions, since their index could not be made: code %s",
                self._name,
                error.code,
            )
        client.removes_expired = True

    @property
    def _name(self) -> str:
        """What errors call the server; without user and password."""
        if self._client is not None:
            return "the client in SESSION_MONGODB"
        return f"MongoDB at {hosts_of(self._uri)}"

    def _make_client(self) -> _Client:
        mongo = self._client
        if mongo is None:
            mongo = client_for(self._uri, self._client_kwargs, self._timeout)
        try:
            return _Client(mongo, self._collection)
        except InvalidName as error:
            raise ConfigError(f"SESSION_MONGODB_COLLECTION is not allowed: {error}") from None


def _condition(expected: Expect | Version, now: float) -> dict[str, Any]:
    """What a document has to be beside its id, so that it is written over or removed."""
    if expected is ANY:
        return {}
    if expected is ABSENT:
        # Only an expired one; without any, the upsert makes it, and a living one forbids that.
        return {"expires": {"$lte": moment(now)}}
    if expected == VERSION_3:
        return {"version": {"$exists": False}}
    assert isinstance(expected, bytes)
    return {"version": to_text(expected), "expires": {"$gt": moment(now)}}


async def _find(sessions: Sessions, id: object) -> Record | None:
    document = await sessions.find_one({"_id": id}, {"data": False})
    if document is not None and "bytes" not in document:
        document = await sessions.find_one({"_id": id})  # written by version 3
    return None if document is None else read(document, time.time())
