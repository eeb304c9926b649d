"""orjson only saves time: without it the pure arm writes and reads the same."""

from __future__ import annotations

import random

import pytest

from quart_session._pure import decoding, encoding


@pytest.mark.both_arms
@pytest.mark.parametrize("check", ["check_encoding", "check_reading"])
def test_the_pure_arm_without_orjson_agrees(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    import comparing

    monkeypatch.setattr(encoding, "orjson", None)
    monkeypatch.setattr(decoding, "orjson", None)
    getattr(comparing, check)(random.Random(), 10_000)
