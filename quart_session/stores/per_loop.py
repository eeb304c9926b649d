"""What each event loop has of its own, since a client of asyncio works in one only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from quart_session.errors import StoreError

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop of asyncio, made when it is first asked for.

    :param make: makes it for the running loop.
    :param elsewhere: what the error says where no such loop runs.
    """

    def __init__(self, make: Callable[[], T], elsewhere: str) -> None:
        self._make = make
        self._elsewhere = elsewhere
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """:raises StoreError: no loop of asyncio runs; Trio may."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            raise StoreError(self._elsewhere) from error
        if loop not in self._made:
            # A loop that ended without a call of close() is not kept alive by its object.
            for other in list(self._made):  # to which other threads may add theirs
                if other.is_closed():
                    self._made.pop(other, None)
            self._made[loop] = self._make()
        return self._made[loop]

    def take(self) -> T | None:
        """Forget the object of the running loop and return it, if there is one."""
        try:
            return self._made.pop(asyncio.get_running_loop(), None)
        except RuntimeError:
            return None

    def __len__(self) -> int:
        return len(self._made)


def used_in_another(client: str, setting: str) -> StoreError:
    """What to tell who made a *client* in a loop that is not the one that serves."""
    return StoreError(
        f"{client} was used in another event loop before; it works in one only. "
        f"Make it in the loop that serves, or set {setting} in its place"
    )
