"""A deadline measures the backend, not the load of the event loop."""

import time
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from quart_session.deadline import deadline
from quart_session.testing import gather

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]

SECONDS = 0.1


async def test_who_is_too_slow_is_a_time_out():
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with deadline(SECONDS):
            await anyio.sleep(60)
    assert time.monotonic() - started >= SECONDS


async def test_who_is_in_time_is_left_alone():
    async with deadline(SECONDS):
        await anyio.sleep(SECONDS / 10)
    await anyio.sleep(2 * SECONDS)


async def test_who_swallows_the_cancellation_is_cancelled_again():
    """As asyncio.wait_for() does before Python 3.12, in clients of backends."""
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with deadline(SECONDS):
                for _ in range(3):
                    with suppress(anyio.get_cancelled_exc_class()):
                        await anyio.sleep(60)
                await anyio.sleep(60)
    await anyio.sleep(2 * SECONDS)


async def test_an_error_of_the_body_stays_as_it_is():
    with pytest.raises(KeyError):
        async with deadline(SECONDS):
            raise KeyError


async def test_no_time_at_all_is_a_time_out():
    with pytest.raises(TimeoutError):
        async with deadline(0):
            pass


async def test_an_answer_that_came_while_the_event_loop_was_busy_is_in_time():
    async def hog():
        await anyio.lowlevel.checkpoint()
        time.sleep(2 * SECONDS)  # noqa: ASYNC251 -- that is the test

    async def ask():
        async with deadline(SECONDS):
            await anyio.sleep(SECONDS / 10)

    await gather([hog, *[ask] * 20])


async def test_a_cancellation_from_outside_is_none_of_its_business():
    with anyio.move_on_after(SECONDS / 10) as scope:
        async with deadline(SECONDS):
            await anyio.sleep(60)
    assert scope.cancelled_caught
