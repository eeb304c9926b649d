"""A scheduler that decides which of several concurrent requests calls the store next.

Requests influence each other through the store alone, apart from what one process shares. So it is
enough to let them run freely between two calls and to decide about the order of the calls: all
orders of calls are all that can ever happen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from quart_session.stores.base import ANY, Conflict, Record, Store

ACTOR: ContextVar[int] = ContextVar("actor")
"""The number of the request that is running."""

MOST_STEPS = 400
"""Whoever needs more store calls than that will never come to an end."""


class Stuck(AssertionError):
    """Requests that wait for each other, or that try again for ever."""


@dataclass(slots=True)
class Effect:
    """One thing that happened, in the order of happening."""

    actor: int
    call: str
    """A method of the store, or "vanish", "expire" or "end" (of the request)."""
    key: str = ""
    data: bytes = b""
    ttl: float = 0.0
    result: Any = None

    def __str__(self) -> str:
        result = self.result
        if isinstance(result, Conflict):
            result = f"conflict with {result.record and result.record.data!r}"
        elif isinstance(result, Record):
            result = result.data
        return f"#{self.actor} {self.call} …{self.key[-4:]} {self.data!r} -> {result!r}"


class GatedStore(Store):
    """Passes every call on when the schedule says so, and notes what it did."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.timely = inner.timely  # type: ignore[misc]
        self.log: list[Effect] = []
        self.schedule: Schedule | None = None

    async def _pass(self, effect: Effect, call: Callable[[], Awaitable[Any]]) -> Any:
        schedule = self.schedule
        if schedule is None:
            return await call()
        await schedule.turn()
        schedule.calls += 1
        try:
            effect.result = await call()
            self.log.append(effect)
        finally:
            schedule.calls -= 1
            schedule.answered.set()
        return effect.result

    async def get(self, key):
        effect = Effect(ACTOR.get(-1), "get", key)
        return await self._pass(effect, lambda: self.inner.get(key))

    async def set(self, key, data, ttl, expected=ANY):
        effect = Effect(ACTOR.get(-1), "set", key, data, ttl)
        return await self._pass(effect, lambda: self.inner.set(key, data, ttl, expected))

    async def delete(self, key, expected=ANY):
        effect = Effect(ACTOR.get(-1), "delete", key)
        return await self._pass(effect, lambda: self.inner.delete(key, expected))

    async def touch(self, key, ttl):
        effect = Effect(ACTOR.get(-1), "touch", key, ttl=ttl)
        return await self._pass(effect, lambda: self.inner.touch(key, ttl))

    async def outside(self, call: str, key: str, action: Callable[[], Awaitable[Any]]) -> None:
        """Something that happens to the store without a session's doing."""
        await self._pass(Effect(ACTOR.get(-1), call, key), action)

    def end(self) -> None:
        self.log.append(Effect(ACTOR.get(), "end"))


class Schedule:
    """One run of all requests, in which *choose* picks who goes on at every step."""

    def __init__(self, choose: Callable[[int, list[int]], int]) -> None:
        self._choose = choose
        self.calls = 0
        """How many calls are with the real store right now."""
        self.answered = asyncio.Event()
        self.steps: list[tuple[int, list[int]]] = []
        """Who was chosen, and out of whom."""
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[ACTOR.get()] = turn
        await turn

    async def run(self, requests: Sequence[Callable[[], Awaitable[Any]]]) -> None:
        async def start(actor: int, request: Callable[[], Awaitable[Any]]) -> None:
            ACTOR.set(actor)
            await request()

        tasks = [asyncio.create_task(start(*numbered)) for numbered in enumerate(requests)]
        try:
            while True:
                await self._all_wait()
                if not self._waiting:
                    break
                if len(self.steps) == MOST_STEPS:
                    raise Stuck(f"no end after {MOST_STEPS} steps: {self.trace()}")
                ready = sorted(self._waiting)
                chosen = self._choose(len(self.steps), ready)
                self.steps.append((chosen, ready))
                self._waiting.pop(chosen).set_result(None)
            if not all(task.done() for task in tasks):
                raise Stuck(f"requests wait for each other: {self.trace()}")
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def trace(self) -> str:
        return "".join(str(chosen) for chosen, _ in self.steps)

    async def _all_wait(self) -> None:
        """Return when nothing can happen any more unless somebody gets his turn."""
        # asyncio's own list of what is ready to run: if it is empty, everybody else waits.
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        while True:
            await asyncio.sleep(0)
            if self.calls:
                self.answered.clear()
                await self.answered.wait()
            elif not ready:
                return


Run = Callable[[Schedule], Awaitable[None]]


async def explore(run: Run, most: int | None = None, seed: int = 0) -> AsyncIterator[Schedule]:
    """Run every schedule and yield each after its run.

    If there are more than *most*, run so many of them, and as many again that are drawn at random.
    """
    count = 0
    prefix: list[int] | None = []
    while prefix is not None:
        if most is not None and count == most:
            break
        schedule = Schedule(_first_after(prefix))
        await run(schedule)
        yield schedule
        count += 1
        prefix = _next(schedule.steps)
    else:
        return
    # In order, the ends vary before the beginnings do.
    rng = random.Random(seed)
    for _ in range(most):
        schedule = Schedule(lambda step, ready: rng.choice(ready))
        await run(schedule)
        yield schedule


def _first_after(prefix: list[int]) -> Callable[[int, list[int]], int]:
    return lambda step, ready: prefix[step] if step < len(prefix) else ready[0]


def _next(steps: list[tuple[int, list[int]]]) -> list[int] | None:
    """The beginning of the schedule after this one; ``None`` after the last."""
    for at in reversed(range(len(steps))):
        chosen, ready = steps[at]
        later = [actor for actor in ready if actor > chosen]
        if later:
            return [chosen for chosen, _ in steps[:at]] + later[:1]
    return None
