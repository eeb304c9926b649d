"""The compiled arm writes and reads what the pure one does, whatever it is given."""

from __future__ import annotations

import random

import pytest

pytestmark = pytest.mark.both_arms


@pytest.mark.parametrize("part", range(4))
def test_both_arms_write_the_same(part: int) -> None:
    import comparing

    comparing.check_encoding(random.Random(), 10_000)


@pytest.mark.parametrize("part", range(4))
def test_both_arms_read_the_same(part: int) -> None:
    import comparing

    comparing.check_reading(random.Random(), 40_000)
