"""The MongoDB store beyond the contract: its documents, those of version 3, clients and errors.

The server is nx-27017, which speaks the protocol; it does not remove what has expired.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from bson import Binary, Decimal128, ObjectId
from closing import Closer
from mongodb_server import MongoDBServer
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener, CommandStartedEvent
from quart import Quart, session

from quart_session import Session, TaggedJSONSerializer
from quart_session.errors import ConfigError, StoreError
from quart_session.sessions import MongoDBSessionInterface
from quart_session.stores.base import ABSENT, ANY, Conflict, digest
from quart_session.stores.mongodb import MongoDBStore
from quart_session.stores.mongodb_documents import VERSION_3, id_of, read, readable
from quart_session.testing import found, gather, written

pytestmark = pytest.mark.anyio
serializer = TaggedJSONSerializer()


@pytest.fixture
async def store(mongodb_server: MongoDBServer) -> AsyncIterator[MongoDBStore]:
    store = MongoDBStore(mongodb_server.uri, timeout=5)
    yield store
    await store.close()


@pytest.fixture
async def client(mongodb_server: MongoDBServer) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """Another program's connection to the server."""
    async with AsyncMongoClient(mongodb_server.uri, uuidRepresentation="standard") as client:
        yield client


@pytest.fixture
def sessions(client: AsyncMongoClient[dict[str, Any]]) -> Any:
    return client.shop.sessions


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


class TestDocuments:
    async def test_a_session_can_be_queried(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        name = uuid4().hex
        data = serializer.dumps({"user": name, "cart": ["tea"], "_permanent": True})
        version = written(await store.set(key, data, 60))
        document = await sessions.find_one({"data.user": name})
        left = document.pop("expires").replace(tzinfo=UTC) - datetime.now(UTC)
        assert timedelta(seconds=55) < left <= timedelta(seconds=60.001)
        assert document == {
            "_id": key,
            "data": {"user": name, "cart": ["tea"], "_permanent": True},
            "bytes": data,
            "version": version.decode(),
        }

    async def test_values_have_the_types_that_mongodb_has(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        at = datetime(2025, 3, 4, 5, 6, 7, 891_000, tzinfo=timezone(timedelta(hours=2)))
        uuid = uuid4()
        values = {
            "at": at, "uuid": uuid, "bytes": b"\0\xff", "pair": (1, 2), "set": {3}, "float": 0.5,
            "none": None, "day": at.date(), "wait": timedelta(seconds=3),
        }  # fmt: skip
        await store.set(key, serializer.dumps(values), 60)
        assert (await sessions.find_one({"_id": key}))["data"] == {
            "at": at.astimezone(UTC).replace(tzinfo=None), "uuid": uuid, "bytes": b"\0\xff",
            "pair": [1, 2], "set": [3], "float": 0.5, "none": None,
            "day": "2025-03-04", "wait": "0:00:03",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ({"a.b": 1, "$set": 2, "nul\0": 3}, {"a．b": 1, "＄set": 2, "nul␀": 3}),  # noqa: RUF001
            (2**63, str(2**63)),
            (-(2**63), -(2**63)),
            ("\udc80", "?"),
            ({1: "one", None: 0}, {"1": "one", "None": 0}),
            (
                datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
                "0001-01-01 00:00:00+01:00",
            ),
        ],
        ids=["names", "too large", "just fits", "surrogate", "keys", "before all dates"],
    )
    async def test_what_mongodb_cannot_hold_is_shown_and_kept_exactly(
        self, store: MongoDBStore, sessions: Any, key: str, value: Any, shown: Any
    ) -> None:
        data = serializer.dumps({"value": value})
        await store.set(key, data, 60)
        assert (await sessions.find_one({"_id": key}))["data"] == {"value": shown}
        assert found(await store.get(key)).data == data

    async def test_what_nests_too_deeply_is_shown_as_far_as_it_goes(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        data = b'{"value":' + b"[" * 200 + b"]" * 200 + b"}"
        await store.set(key, data, 60)
        assert "…" in str((await sessions.find_one({"_id": key}))["data"])
        assert found(await store.get(key)).data == data

    @pytest.mark.parametrize(
        ("data", "shown"), [(b"sunny", "sunny"), (b"5", "5"), (b"\xff", b"\xff"), (b"", "")]
    )
    async def test_what_is_no_session_is_shown_as_it_is(
        self, store: MongoDBStore, sessions: Any, key: str, data: bytes, shown: Any
    ) -> None:
        await store.set(key, data, 60)
        assert (await sessions.find_one({"_id": key}))["data"] == shown

    async def test_the_bytes_count_and_not_what_is_shown(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        await store.set(key, b'{"user":"ada"}', 60)
        await sessions.update_one({"_id": key}, {"$set": {"data": {"user": "eve"}}})
        assert found(await store.get(key)).data == b'{"user":"ada"}'

    async def test_fields_of_others_stay(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        await store.set(key, b"1", 60)
        await sessions.update_one({"_id": key}, {"$set": {"note": "mine"}})
        await store.set(key, b"2", 60, digest(b"1"))
        await store.touch(key, 60)
        assert (await sessions.find_one({"_id": key}))["note"] == "mine"

    async def test_mongodb_is_told_once_to_remove_what_has_expired(
        self, mongodb_server: MongoDBServer, key: str
    ) -> None:
        indexes: list[Any] = []

        class Listener(CommandListener):
            def started(self, event: CommandStartedEvent) -> None:
                indexes.extend(event.command.get("indexes", []))

            def succeeded(self, event: object) -> None: ...

            def failed(self, event: object) -> None: ...

        store = MongoDBStore(mongodb_server.uri, client_kwargs={"event_listeners": [Listener()]})
        await store.get(key)
        await store.set(key, b"data", 60)
        await store.close()
        [index] = indexes
        assert (dict(index["key"]), index["expireAfterSeconds"]) == ({"expires": 1}, 0)

    async def test_without_the_right_to_make_an_index_sessions_work(
        self, store: MongoDBStore, key: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def create_index(*args: object, **kwargs: object) -> None:
            raise OperationFailure("not allowed", 13)

        client = store._clients.get()
        client.sessions.create_index = create_index  # type: ignore[assignment]
        with caplog.at_level(logging.WARNING):
            written(await store.set(key, b"data", 0.05))
            await anyio.sleep(0.06)
            assert await store.get(key) is None
        assert len(caplog.messages) == 1
        assert "does not remove expired sessions" in caplog.text

    async def test_one_of_many_writers_wins_over_many_connections(
        self, store: MongoDBStore, key: str
    ) -> None:
        answers = await gather(partial(store.set, key, b"%d" % n, 60, ABSENT) for n in range(64))
        [version] = [answer for answer in answers if not isinstance(answer, Conflict)]
        answers = await gather(partial(store.set, key, b"+%d" % n, 60, version) for n in range(64))
        [version] = [answer for answer in answers if not isinstance(answer, Conflict)]
        assert found(await store.get(key)).version == version

    async def test_many_unconditional_writers_of_a_new_record_all_succeed(
        self, store: MongoDBStore, key: str
    ) -> None:
        for turn in range(5):
            answers = await gather(
                partial(store.set, f"{key}:{turn}", b"%d" % n, 60, ANY) for n in range(40)
            )
            assert all(isinstance(answer, bytes) for answer in answers)


class TestVersion3:
    """It wrote ``_id`` and ``data``, and nothing about the end of a life."""

    SID = "0b9a8f0c-7d5e-4c3b-9a2f-1e0d9c8b7a65"
    KEY = "session:" + SID
    DATA: dict[str, Any] = {  # noqa: RUF012
        "_permanent": True, "_addr": "192.0.2.9", "user": "ada", "n": 5,
        "at": datetime(2025, 1, 2, 3, 4, 5), "tags": ["a", {"b": None}], "blob": b"\0\1",
    }  # fmt: skip

    @pytest.fixture(autouse=True)
    async def planted(self, sessions: Any) -> None:
        await sessions.delete_one({"_id": UUID(self.SID)})
        await sessions.insert_one({"_id": UUID(self.SID), "data": self.DATA})

    async def test_a_session_is_read(self, store: MongoDBStore) -> None:
        record = found(await store.get(self.KEY))
        assert serializer.loads(record.data) == self.DATA
        assert (record.version, record.expires_in) == (VERSION_3, None)

    async def test_a_conditional_write_takes_it_over(
        self, store: MongoDBStore, sessions: Any
    ) -> None:
        assert isinstance(await store.set(self.KEY, b"{}", 60, ABSENT), Conflict)
        assert isinstance(await store.set(self.KEY, b"{}", 60, b"other"), Conflict)
        version = written(await store.set(self.KEY, b"{}", 60, VERSION_3))
        assert found(await store.get(self.KEY))[:2] == (b"{}", version)
        assert isinstance(await store.set(self.KEY, b"[]", 60, VERSION_3), Conflict)
        assert await sessions.count_documents({"_id": UUID(self.SID)}) == 1

    async def test_it_can_be_deleted(self, store: MongoDBStore) -> None:
        assert isinstance(await store.delete(self.KEY, b"other"), Conflict)
        assert await store.delete(self.KEY, VERSION_3) is None
        assert await store.get(self.KEY) is None

    async def test_a_touch_gives_it_an_end(self, store: MongoDBStore) -> None:
        assert await store.touch(self.KEY, 60) is True
        record = found(await store.get(self.KEY))
        assert record.expires_in is not None
        assert 55 < record.expires_in <= 60.001
        assert record.version == VERSION_3
        assert await store.touch(self.KEY, 0.01) is True
        await anyio.sleep(0.02)
        assert await store.get(self.KEY) is None

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("sunny", b"sunny"),
            (b"\xff", b"\xff"),
            (5, b"5"),
            ({"id": ObjectId("5f" * 12)}, b'{"id":"' + b"5f" * 12 + b'"}'),
            ({"n": Binary(b"\1", 128)}, serializer.dumps({"n": b"\1"})),
        ],
        ids=["text", "bytes", "a number", "ObjectId", "Binary"],
    )
    async def test_what_else_it_could_store_is_read(
        self, store: MongoDBStore, sessions: Any, key: str, value: Any, expected: bytes
    ) -> None:
        await sessions.insert_one({"_id": key, "data": value})
        assert found(await store.get(key)).data == expected

    async def test_its_users_stay_logged_in(
        self, mongodb_server: MongoDBServer, sessions: Any
    ) -> None:
        app = Quart(__name__)
        app.config["SESSION_TYPE"] = "mongodb"
        app.config["SESSION_MONGODB_URI"] = mongodb_server.uri
        app.config["SESSION_MONGODB_COLLECTION"] = "sessions"
        app.config["SESSION_TIMEOUT"] = 5
        Session(app)

        @app.get("/")
        async def look() -> dict[str, Any]:
            return {"user": session.get("user"), "n": session.get("n")}

        @app.post("/")
        async def count() -> str:
            session["n"] += 1
            return "done"

        @app.post("/logout")
        async def logout() -> str:
            session.destroy()
            return "done"

        async with app.test_app():
            browser = app.test_client()
            browser.set_cookie("localhost", "session", self.SID)
            assert await (await browser.get("/")).get_json() == {"user": "ada", "n": 5}
            assert (await browser.post("/")).status_code == 200
            assert await (await browser.get("/")).get_json() == {"user": "ada", "n": 6}
            left = await sessions.find_one({"_id": UUID(self.SID)})
            assert "ada" not in str(left)
            assert (await browser.post("/logout")).status_code == 200
            assert await (await browser.get("/")).get_json() == {"user": None, "n": None}
            await app.session_interface.set("weather", "sunny", expiry=60)
            assert await app.session_interface.get("weather") == "sunny"


@pytest.mark.parametrize(
    "key",
    [
        TestVersion3.SID,
        "session:" + TestVersion3.SID.upper(),
        "session:" + TestVersion3.SID.replace("-", ""),
        "other:" + TestVersion3.SID,
        "session:" + "x" * 36,
    ],
)
def test_no_two_keys_have_one_id(key: str) -> None:
    assert id_of(key) == key
    assert id_of(TestVersion3.KEY) == UUID(TestVersion3.SID)


def test_decimals_are_mongodbs_and_come_back() -> None:
    """What stands in for the server does not know them."""
    shown = readable(serializer.dumps({"price": Decimal("9.90")}))
    assert shown == {"price": Decimal128("9.90")}
    long = "1." + "1" * 40
    assert readable(serializer.dumps({"long": Decimal(long)})) == {"long": long}
    record = read({"_id": "key", "data": shown}, 0)
    assert serializer.loads(found(record).data) == {"price": Decimal("9.90")}


async def test_the_interface_is_made_by_hand_as_in_version_3(
    mongodb_server: MongoDBServer,
    client: AsyncMongoClient[dict[str, Any]],
    key: str,
    closed_later: Closer,
) -> None:
    interface = closed_later(
        MongoDBSessionInterface(
            mongodb_server.uri,
            "by_hand",
            client_kwargs={"appname": "shop"},
            set_callback=lambda document: document.update(seen=True),
            key_prefix="session:",
        )
    )
    await interface.set(key, "{}", expiry=60)
    document = await client.shop.by_hand.find_one({"_id": key})
    assert document is not None
    assert document["seen"] is True


class TestCallback:
    async def test_it_sees_the_document_and_may_add_to_it(
        self, mongodb_server: MongoDBServer, sessions: Any, key: str, closed_later: Closer
    ) -> None:
        def callback(document: dict[str, Any]) -> None:
            assert document == {"data": {"user": "ada"}}
            document["user_id"] = document["data"]["user"]
            document["data"]["seen"] = True
            document.update(_id="other", bytes=b"other", version="other", expires=None)

        store = closed_later(MongoDBStore(mongodb_server.uri, set_callback=callback, timeout=5))
        version = written(await store.set(key, b'{"user":"ada"}', 60))
        written(await store.set(key, b'{"user":"ada"}', 60, version))
        document = await sessions.find_one({"_id": key})
        assert document["user_id"] == "ada"
        assert document["data"] == {"user": "ada", "seen": True}
        assert found(await store.get(key)).data == b'{"user":"ada"}'

    async def test_what_it_adds_must_be_for_mongodb(
        self, mongodb_server: MongoDBServer, key: str, closed_later: Closer
    ) -> None:
        store = closed_later(
            MongoDBStore(
                mongodb_server.uri,
                set_callback=lambda document: document.update(secret={"private"}),
                timeout=5,
            )
        )
        with pytest.raises(StoreError, match="InvalidDocument") as error:
            await store.set(key, b"{}", 60)
        assert "private" not in str(error.value)


class TestClients:
    async def test_the_uri_names_the_database(
        self,
        mongodb_server: MongoDBServer,
        client: AsyncMongoClient[dict[str, Any]],
        key: str,
        closed_later: Closer,
    ) -> None:
        for uri, database in [
            (mongodb_server.uri, "shop"),
            (mongodb_server.uri.removesuffix("shop"), "quart_session"),
        ]:
            store = closed_later(MongoDBStore(uri, collection="visitors", timeout=5))
            await store.set(key, b"data", 60)
            assert await client[database].visitors.find_one({"_id": key}) is not None

    @pytest.mark.parametrize(
        ("options", "kwargs", "size"),
        [("", {}, 16), ("?maxPoolSize=3", {}, 3), ("", {"maxpoolsize": 4}, 4)],
    )
    async def test_options_are_the_users(
        self, mongodb_server: MongoDBServer, options: str, kwargs: dict[str, Any], size: int
    ) -> None:
        store = MongoDBStore(mongodb_server.uri + options, client_kwargs=kwargs)
        client = store.backend
        assert isinstance(client, AsyncMongoClient)
        assert client.options.pool_options.max_pool_size == size

    async def test_an_instance_is_used_and_not_closed(
        self, client: AsyncMongoClient[dict[str, Any]], sessions: Any, key: str
    ) -> None:
        store = MongoDBStore(client=client, timeout=5)
        await store.set(key, b"data", 60)
        assert store.backend is client
        await store.close()
        assert await sessions.find_one({"_id": key}) is not None

    def test_an_instance_in_another_loop_is_an_error_that_says_so(
        self, mongodb_server: MongoDBServer, key: str
    ) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_server.uri)
        store = MongoDBStore(client=client)

        async def first() -> None:
            await store.get(key)
            await store.close()

        async def second() -> None:
            with pytest.raises(StoreError, match="another event loop"):
                await store.get(key)

        with asyncio.Runner() as runner:
            try:
                runner.run(first())
                asyncio.run(second())
            finally:
                runner.run(client.close())

    async def test_a_caller_who_leaves_while_it_connects_leaves_nothing_open(
        self, mongodb_server: MongoDBServer, key: str
    ) -> None:
        """pymongo forgets sockets that are cancelled; each would be a warning, and so an error."""
        for n in range(40):
            store = MongoDBStore(mongodb_server.uri, timeout=5)
            with anyio.move_on_after(n * 0.0003):
                await store.get(key)
            await store.close()
        gc.collect()

    @pytest.mark.parametrize("client", ["mongodb://u:hunter2@localhost", object()])
    def test_another_kind_of_instance_is_refused(self, client: object) -> None:
        with pytest.raises(ConfigError, match=r"pymongo\.AsyncMongoClient") as error:
            MongoDBStore(client=client)
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize(
        ("uri", "kwargs"),
        [
            ("http://u:hunter2@localhost", {}),
            ("mongodb://u:hunter2:@@localhost", {}),
            ("mongodb://u:hunter2@localhost:port", {}),
            ("mongodb://u:hunter2@localhost", {"nonsense": 1}),
        ],
    )
    def test_a_wrong_uri_is_refused_without_its_password(
        self, uri: str, kwargs: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError) as error:
            MongoDBStore(uri, client_kwargs=kwargs)
        assert "hunter2" not in str(error.value)
        assert error.value.__cause__ is None

    @pytest.mark.parametrize("name", ["a..b", "$a", ".a"])
    def test_a_name_that_no_collection_may_have_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match="SESSION_MONGODB_COLLECTION is not allowed"):
            MongoDBStore(collection=name)


class TestErrors:
    async def test_a_refusal_shows_neither_key_nor_data(
        self, store: MongoDBStore, sessions: Any, key: str
    ) -> None:
        await store.open()
        client = store._clients.get()

        async def refuse(*args: object, **kwargs: object) -> None:
            raise OperationFailure("E1: secret, private", 1, {"codeName": "Refused"})

        for name in ("find_one", "update_one", "delete_one"):
            setattr(client.sessions, name, refuse)
        for call in (
            partial(store.get, "secret"),
            partial(store.set, "secret", b"private", 60),
            partial(store.set, "secret", b"private", 60, ABSENT),
            partial(store.set, "secret", b"private", 60, b"version"),
            partial(store.delete, "secret"),
            partial(store.touch, "secret", 60),
        ):
            with pytest.raises(StoreError, match=r"code 1 \(Refused\)") as error:
                await call()
            assert "secret" not in str(error.value)
            assert "private" not in str(error.value)
            assert error.value.__cause__ is None

    async def test_a_document_that_is_too_large_is_an_error_and_the_old_record_stays(
        self, store: MongoDBStore, key: str
    ) -> None:
        await store.set(key, b"old", 60)
        with pytest.raises(StoreError, match=r"DocumentTooLarge|InvalidDocument|code") as error:
            await store.set(key, b"x" * 17_000_000, 60)
        assert len(str(error.value)) < 200
        assert found(await store.get(key)).data == b"old"

    @pytest.mark.parametrize("anyio_backend", ["trio"])
    async def test_trio_is_an_error_that_says_so(self, key: str) -> None:
        store = MongoDBStore()
        with pytest.raises(StoreError, match="asyncio"):
            await store.get(key)
        await store.close()
