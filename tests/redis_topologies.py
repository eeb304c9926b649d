"""Several Redis servers that belong together: a cluster, and a master that sentinels watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from servers import RedisServer, redis_server, running

SLOTS = 16384
NOTICED = 1000
"""Milliseconds after which a server that does not answer counts as dead."""


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 40) -> None:
    """:raises RuntimeError: *condition* is not true in time, or its server does not answer."""
    until = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def admin_of(server: RedisServer) -> Any:
    """A client of *server* for the test itself; close it with a ``with``."""
    return redis.Redis(port=server.port, decode_responses=True, protocol=2)


class Topology:
    """Servers, the clients of the test to each of them, and the URL of a store."""

    def __init__(self, servers: list[RedisServer], stack: ExitStack) -> None:
        self.servers = servers
        self.admins = [stack.enter_context(admin_of(server)) for server in servers]
        self.url = ""

    def running(self) -> list[int]:
        """Numbers of the servers that run."""
        return [n for n, server in enumerate(self.servers) if server.runs]

    def number(self, port: int) -> int:
        return next(n for n, server in enumerate(self.servers) if server.port == int(port))

    def in_step(self, n: int) -> bool:
        """Whether server *n* is a master, or a replica that has what its master has."""
        return self.admins[n].info("replication").get("master_link_status", "up") == "up"

    def get(self, key: str) -> bytes | None:
        """What the master of *key* holds."""
        with redis.Redis(port=self.servers[self.master_of(key)].port) as client:
            value: bytes | None = client.get(key)
        return value

    def master_of(self, key: str) -> int:
        """The number of the server that has *key* to write."""
        raise NotImplementedError

    def replicas_of(self, n: int) -> list[int]:
        """The numbers of the servers that copy server *n*."""
        return [
            other
            for other in self.running()
            if self.admins[other].info("replication").get("master_port") == self.servers[n].port
        ]

    def hand_over(self, key: str) -> None:
        """Let a replica take the place of the master of *key*, in order."""
        raise NotImplementedError

    def wait_until_well(self) -> None:
        """Wait until there is a master for every key and all replicas that run are in step."""
        raise NotImplementedError


class Cluster(Topology):
    """As many masters as replicas; the masters come first."""

    def form(self) -> None:
        masters = len(self.servers) // 2
        self.ids = [str(admin.execute_command("CLUSTER", "MYID")) for admin in self.admins]
        self.url = "redis+cluster://" + ",".join(
            f"127.0.0.1:{server.port}" for server in self.servers[:2]
        )
        bounds = [SLOTS * n // masters for n in range(masters + 1)]
        for n, admin in enumerate(self.admins):
            admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            if n < masters:
                admin.execute_command("CLUSTER", "ADDSLOTS", *range(bounds[n], bounds[n + 1]))
            if n:
                admin.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        known = f"cluster_known_nodes:{len(self.servers)}\r\n"
        wait_until(
            lambda: all(known in self._info(n) for n in self.running()), "all nodes know each other"
        )
        for n, admin in enumerate(self.admins[masters:]):
            admin.execute_command("CLUSTER", "REPLICATE", self.ids[n])
        self.wait_until_well()

    def _info(self, n: int) -> str:
        return str(self.admins[n].execute_command("CLUSTER", "INFO"))

    def wait_until_well(self) -> None:
        wait_until(
            lambda: all("cluster_state:ok" in self._info(n) for n in self.running()),
            "every slot is served",
        )
        wait_until(lambda: all(map(self.in_step, self.running())), "replicas are in step")

    def slot(self, key: str) -> int:
        return int(self.admins[self.running()[0]].execute_command("CLUSTER", "KEYSLOT", key))

    def master_of(self, key: str) -> int:
        slot = self.slot(key)
        admin = self.admins[self.running()[0]]
        for low, high, (_, port, *_), *_ in admin.execute_command("CLUSTER", "SLOTS"):
            if low <= slot <= high:
                return self.number(port)
        raise RuntimeError(f"nobody has slot {slot}")

    def hand_over(self, key: str) -> None:
        [replica] = self.replicas_of(self.master_of(key))
        self.admins[replica].execute_command("CLUSTER", "FAILOVER")
        wait_until(lambda: self.master_of(key) == replica, "the replica took over")
        self.wait_until_well()


class Watched(Topology):
    """A master and its replicas, with sentinels of whom two must agree that it is dead."""

    service = "sessions"

    def watch(self, sentinels: list[RedisServer], stack: ExitStack) -> None:
        self.sentinels = sentinels
        self._asked = [stack.enter_context(admin_of(sentinel)) for sentinel in sentinels]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        self.url = f"redis+sentinel://{hosts}/{self.service}"
        self.wait_until_well()

    def _state(self, n: int) -> dict[str, Any]:
        state = self._asked[n].execute_command("SENTINEL", "MASTER", self.service)
        return dict(state if isinstance(state, dict) else zip(state[::2], state[1::2], strict=True))

    def wait_until_well(self) -> None:
        """... and all sentinels know of each other and of all replicas."""
        replicas = len(self.running()) - 1
        others = len(self.sentinels) - 1

        def complete(n: int) -> bool:
            state = self._state(n)
            return (
                int(state["num-other-sentinels"]) == others
                and int(state["num-slaves"]) >= replicas
                and self.number(state["port"]) in self.running()
            )

        wait_until(
            lambda: all(complete(n) for n in range(len(self.sentinels))), "sentinels are complete"
        )

        def agreed() -> bool:
            first, *others = {self._state(n)["port"] for n in range(len(self.sentinels))}
            return not others and len(self.replicas_of(self.number(first))) == replicas

        wait_until(agreed, "all follow one master")
        wait_until(lambda: all(map(self.in_step, self.running())), "replicas are in step")

    def master_of(self, key: str) -> int:
        return self.number(self._state(0)["port"])

    def hand_over(self, key: str) -> None:
        before = self.master_of(key)
        self._asked[0].execute_command("SENTINEL", "FAILOVER", self.service)
        wait_until(lambda: self.master_of(key) != before, "a replica took over")
        self.wait_until_well()


class _Sentinel(RedisServer):
    def __init__(self, folder: Path, master: int, noticed: int) -> None:
        super().__init__(folder)
        self._file = folder / "sentinel.conf"
        name = Watched.service
        self._file.write_text(
            f"""port {self.port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {name} {noticed}
sentinel failover-timeout {name} 3000
"""
        )

    def _arguments(self) -> list[str]:
        return [str(self._file), "--sentinel"]


@contextmanager
def redis_cluster(folder: Path, *options: str, masters: int = 3) -> Iterator[Cluster]:
    """Run a cluster of *masters* and as many replicas."""
    with ExitStack() as stack:
        servers = []
        for n in range(2 * masters):
            (folder / str(n)).mkdir()
            servers.append(
                stack.enter_context(
                    redis_server(
                        folder / str(n),
                        *("--cluster-enabled", "yes"),
                        *("--cluster-node-timeout", str(NOTICED)),
                        *("--cluster-replica-validity-factor", "0"),
                        *("--repl-diskless-sync-delay", "0"),
                        *options,
                    )
                )
            )
        cluster = Cluster(servers, stack)
        cluster.form()
        yield cluster


@contextmanager
def redis_behind_sentinels(
    folder: Path, *options: str, replicas: int = 2, noticed: int = NOTICED
) -> Iterator[Watched]:
    """Run a master, *replicas* and three sentinels, which notice a death in *noticed* ms."""
    with ExitStack() as stack:
        servers: list[RedisServer] = []
        for n in range(replicas + 1):
            (folder / str(n)).mkdir()
            role = ("--replicaof", "127.0.0.1", str(servers[0].port)) if n else ()
            servers.append(
                stack.enter_context(
                    redis_server(
                        folder / str(n), "--repl-diskless-sync-delay", "0", *role, *options
                    )
                )
            )
        watched = Watched(servers, stack)
        wait_until(lambda: all(map(watched.in_step, watched.running())), "replicas are in step")
        sentinels = []
        for n in range(3):
            (folder / f"sentinel{n}").mkdir()
            sentinel = _Sentinel(folder / f"sentinel{n}", servers[0].port, noticed)
            sentinels.append(stack.enter_context(running(sentinel)))
        watched.watch(sentinels, stack)
        yield watched
