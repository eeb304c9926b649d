"""What each event loop has of its own."""

from __future__ import annotations

import asyncio
from threading import Thread

from quart_session.stores.per_loop import PerLoop


def test_loops_of_several_threads_may_ask_at_once() -> None:
    per_loop = PerLoop(object, "not here")

    async def ask() -> object:
        return per_loop.get()

    class Interrupted(asyncio.SelectorEventLoop):
        """Looked at by one thread, it gives another its turn."""

        interrupted = False

        def is_closed(self) -> bool:
            if not self.interrupted:
                self.interrupted = True
                other = Thread(target=asyncio.run, args=(ask(),))
                other.start()
                other.join()
            return super().is_closed()

    with asyncio.Runner(loop_factory=Interrupted) as first:
        first.run(ask())
        assert asyncio.run(ask()) is not first.run(ask())
