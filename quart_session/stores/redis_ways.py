"""The ways to each shape of Redis and back, for the commands of one batch."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, PipelineCommand, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.client import NEVER_DECODE
from redis.exceptions import AskError, ConnectionError, MovedError, ReadOnlyError, ResponseError

from quart_session.stores.redis_batches import (
    CONNECTIONS,
    FAILED,
    MAY_PASS,
    Call,
    TooFewReplicas,
    Way,
)

# Until 5.2 a pool wanted the name of a command, which it did not use.
_NAME = signature(ConnectionPool.get_connection).parameters["command_name"]
_NAMELESS: tuple[str, ...] = ("",) if _NAME.default is Parameter.empty else ()


def way_to(redis: Redis | RedisCluster) -> Way:
    """The way that *redis*, a client of any shape, goes."""
    if isinstance(redis, RedisCluster):
        return WayThroughCluster(redis)
    if isinstance(redis.connection_pool, SentinelConnectionPool):
        return WayBehindSentinels(redis)
    return WayThroughPool(redis)


class WayThroughPool:
    """To one server."""

    patient = False

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self.width = min(CONNECTIONS, self._pool.max_connections)

    async def _connection(self) -> Any:
        return await self._pool.get_connection(*_NAMELESS)

    async def send(self, calls: Sequence[Call]) -> None:
        # Not by way of client.execute_command, which may repeat writes on its own.
        connection = await self._connection()
        try:
            await _drop_if_reset(connection)
            await connection.send_packed_command(
                connection.pack_commands([call.send() for call in calls])
            )
            trouble = None
            for call in calls:
                try:
                    answer = await connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    answer = error
                trouble = _hand_out(call, answer) or trouble
            if trouble is not None:
                # A master that became a replica: its name may belong to another server by now.
                await connection.disconnect(nowait=True)
                raise trouble
        finally:
            await self._pool.release(connection)


class WayBehindSentinels(WayThroughPool):
    """To the master that sentinels name."""

    patient = True

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._known: list[Any] = self._pool.sentinel_manager.sentinels
        self._all = tuple(self._known)

    async def _connection(self) -> Any:
        try:
            return await super()._connection()
        finally:
            # redis-py forgets sentinels for good when several connections ask at once.
            self._known[:] = dict.fromkeys((*self._known, *self._all))


class WayThroughCluster:
    """To the node of a cluster that has the key.

    The client knows the nodes and their slots. Its own ``execute_command`` would repeat writes,
    close connections under other commands, and go in circles while a slot is on its way to another
    node: it may send ASKING through another connection than the command.
    """

    patient = True

    def __init__(self, client: RedisCluster) -> None:
        self._client = client
        options = client.get_connection_kwargs()
        self.width = min(CONNECTIONS, options.get("max_connections") or CONNECTIONS)
        self._outdated = False
        self._learning = asyncio.Lock()

    async def send(self, calls: Sequence[Call]) -> None:
        await self._client.initialize()
        if self._outdated:
            await self._learn()
        groups: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            groups[self._node(call).name].append(call)
        troubles = await asyncio.gather(*map(self._send_to_one_node, groups.values()))
        for trouble in troubles:
            if trouble is not None:
                raise trouble

    async def _learn(self) -> None:
        """Ask for the nodes and their slots."""
        async with self._learning:
            if self._outdated:
                await self._client.nodes_manager.initialize()
                self._outdated = False

    def _node(self, call: Call) -> ClusterNode:
        node = self._client.get_node_from_key(call.key)
        assert node is not None  # as it may be only for replicas
        return node

    async def _send_to_one_node(self, calls: list[Call]) -> Exception | None:
        node = self._node(calls[0])
        trouble: Exception | None = None
        for call, answer in zip(calls, await self._exchange(node, calls), strict=True):
            if isinstance(answer, MovedError):
                await self._client.nodes_manager.move_slot(answer)
                trouble = answer
            elif isinstance(answer, AskError):
                other = self._client.get_node(answer.host, answer.port)
                if other is None:  # a new node
                    self._outdated = True
                    trouble = answer
                else:
                    [_, answer] = await self._exchange(other, [Call(("ASKING",)), call])
                    trouble = _hand_out(call, answer) or trouble
            else:
                trouble = _hand_out(call, answer) or trouble
        return trouble

    async def _exchange(self, node: ClusterNode, calls: list[Call]) -> list[Any]:
        """Send *calls* to *node* in one piece; the answers and errors in their order."""
        commands = [
            PipelineCommand(n, *call.send(), **{NEVER_DECODE: True}) for n, call in enumerate(calls)
        ]
        try:
            for connection in tuple(node._free):
                await _drop_if_reset(connection)
            await node.execute_pipeline(commands)
        except MAY_PASS as error:
            answers: list[Any] = [error] * len(calls)
        except asyncio.CancelledError:
            self._suspect(node)  # it was silent until the deadline
            raise
        else:
            answers = [command.result for command in commands]
        if any(isinstance(answer, FAILED) for answer in answers):
            self._suspect(node)
        return answers

    def _suspect(self, node: ClusterNode) -> None:
        """Another node may have taken the place of *node*: ask the others for it first."""
        self._client.nodes_manager.move_node_to_end_of_cached_nodes(node.name)
        self._outdated = True


def _hand_out(call: Call, answer: Any) -> Exception | None:
    """Give *answer* to the caller, unless it is trouble that may pass: then return that."""
    if isinstance(answer, MAY_PASS):
        return answer
    # Servers before 7.0 wrap what happens in a script.
    if isinstance(answer, ReadOnlyError) or (
        isinstance(answer, ResponseError) and "READONLY" in str(answer)
    ):
        return ConnectionError("the master became a replica")
    if isinstance(answer, ResponseError) and "NOREPLICAS" in str(answer):
        return TooFewReplicas("the master takes no writes while it has too few replicas")
    call.answered(answer)
    return None


async def _drop_if_reset(connection: Any) -> None:
    """Let go of a connection that was reset while it was idle, so that it is made anew.

    redis-py sees at most those that were closed in order, and would write to the others. asyncio of
    Python 3.12 and 3.13.0 then watches a file number that soon belongs to something else, which
    hangs.
    """
    writer = connection._writer
    if writer is not None and writer.is_closing():
        await connection.disconnect(nowait=True)
