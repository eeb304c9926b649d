"""Session ids beside what else makes, checks and signs them."""

from __future__ import annotations

import re
import secrets
from types import ModuleType
from typing import Any

import itsdangerous
import pytest

from quart_session import _pure, _speedups

SIGNER = itsdangerous.Signer("key", salt="quart-session", key_derivation="hmac")
SID = _pure.new_sid()
SIGNED = _pure.sign_sid(SID, "key")
both_arms = pytest.mark.parametrize("arm", [_speedups, _pure], ids=["compiled", "pure"])


@both_arms
def test_new_sid(benchmark: Any, arm: ModuleType) -> None:
    benchmark.group = "new"
    benchmark(arm.new_sid)


def test_secrets(benchmark: Any) -> None:
    benchmark.group = "new"
    benchmark(secrets.token_urlsafe, 32)


@both_arms
def test_is_sid(benchmark: Any, arm: ModuleType) -> None:
    benchmark.group = "check"
    benchmark(arm.is_sid, SID)


def test_regular_expression(benchmark: Any) -> None:
    benchmark.group = "check"
    benchmark(re.compile("[A-Za-z0-9_-]{43}").fullmatch, SID)


@both_arms
def test_sign(benchmark: Any, arm: ModuleType) -> None:
    benchmark.group = "sign"
    benchmark(arm.sign_sid, SID, "key")


def test_sign_itsdangerous(benchmark: Any) -> None:
    benchmark.group = "sign"
    benchmark(SIGNER.sign, SID)


@both_arms
def test_unsign(benchmark: Any, arm: ModuleType) -> None:
    benchmark.group = "verify"
    benchmark(arm.unsign_sid, SIGNED, ["key"])


def test_unsign_itsdangerous(benchmark: Any) -> None:
    benchmark.group = "verify"
    benchmark(SIGNER.unsign, SIGNED)
