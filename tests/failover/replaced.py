"""What is lost when sentinels replace a master that lives, under load.

Run ``python tests/failover/replaced.py``; it takes three minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

sys.path.insert(0, str(Path(__file__).parents[1]))

from redis_topologies import Topology, redis_behind_sentinels
from shop import Shop, Visitor

CAREFUL = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")


class Counting(Visitor):
    """Counts what is lost and goes on from there."""

    lost = 0

    def check(self, count: int) -> None:
        missing = self.base + self.confirmed - count
        if missing > 0:
            self.lost += missing
            self.begin_anew(count)


async def replace(servers: Topology, times: int = 5) -> None:
    shop = Shop(servers, kind_of_visitor=Counting)
    losses = []
    for _ in range(times):
        before = sum(visitor.lost for visitor in shop.visitors)
        async with shop.busy():
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(servers.hand_over, "")
            await anyio.sleep(1)
        await shop.everybody_is_served()
        losses.append(sum(visitor.lost for visitor in shop.visitors) - before)
    print(f"{losses} lost, {dict(shop.statuses)}")
    await shop.interface.close()


if __name__ == "__main__":
    for options in ((), CAREFUL):
        with (
            TemporaryDirectory() as folder,
            redis_behind_sentinels(Path(folder), *options, noticed=3000) as servers,
        ):
            print(*options or ("default",))
            anyio.run(replace, servers)
