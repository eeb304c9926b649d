"""The pauses between the tries of a write that others keep coming before."""

from __future__ import annotations

import time
from random import uniform

import anyio

from quart_session.errors import SessionConflict

PAUSE = 0.002
"""Seconds, about, between two tries; it grows with each of them."""

LONGEST_PAUSE = 0.05


class Attempts:
    """The tries of one write.

    :param seconds: after so many there is no other try.

    .. versionadded:: 4.0
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._tries = 0

    async def pause(self) -> None:
        """Wait a moment before the next try.

        :raises SessionConflict: there is no time for one.
        """
        if time.monotonic() > self._deadline:
            raise SessionConflict("Other requests kept changing the session; it was not saved")
        if self._tries:  # the first one is most often the last
            await anyio.sleep(uniform(0, min(PAUSE * self._tries, LONGEST_PAUSE)))
        self._tries += 1
