"""What a test has opened is closed after it, whatever became of the test.

A socket that a failed test leaves open is an error of whichever test runs when it is collected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

import pytest
from anyio.lowlevel import checkpoint

T = TypeVar("T")


class Closer(Protocol):
    def __call__(self, opened: T) -> T:
        """Return *opened*, a store or a client, which is closed after the test."""


@pytest.fixture
async def closed_later(anyio_backend: object) -> AsyncIterator[Closer]:
    async with AsyncExitStack() as stack:

        def later(opened: Any) -> Any:
            stack.push_async_callback(getattr(opened, "aclose", opened.close))
            return opened

        yield later
    await checkpoint()  # transports of asyncio end in the next turn of its loop
