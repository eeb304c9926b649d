"""Session ids: making, checking, signing."""

from __future__ import annotations

import base64
import os
import threading
from types import ModuleType

import itsdangerous
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_session import _pure

KEYS = st.one_of(st.text(max_size=80), st.binary(max_size=80)).filter(
    lambda key: isinstance(key, bytes) or key.isprintable()
)


def signer(key: str | bytes) -> itsdangerous.Signer:
    return itsdangerous.Signer(key, salt="quart-session", key_derivation="hmac")


def test_an_id_is_32_bytes_as_base64url(arm: ModuleType) -> None:
    sid = arm.new_sid()
    assert type(sid) is str and len(sid) == 43
    decoded = base64.urlsafe_b64decode(sid + "=")
    assert len(decoded) == 32
    assert base64.urlsafe_b64encode(decoded).decode().rstrip("=") == sid


def test_the_operating_system_is_asked_for_every_id(
    arm: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {arm.new_sid() for _ in range(1000)}
    assert len(ids) == 1000


def test_ids_differ_after_a_fork(arm: ModuleType) -> None:
    arm.new_sid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, arm.new_sid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 43).decode() != arm.new_sid()
    os.close(reading)
    os.close(writing)


def test_threads_never_get_the_same_id(arm: ModuleType) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(arm.new_sid() for _ in range(500)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


def test_a_new_id_is_an_id(arm: ModuleType) -> None:
    assert all(arm.is_sid(arm.new_sid()) for _ in range(100))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "A" * 42,
        "A" * 44,
        "A" * 42 + "=",
        "A" * 42 + "+",
        "A" * 42 + "/",
        "A" * 42 + "\n",
        "A" * 42 + "\x00",
        "A" * 43 + "\n",
        "A" * 42 + "é",
        "A" * 42 + "\uff21",
        "A" * 42 + "\U0001f600",
        b"A" * 43,
        None,
        43,
        ["A"] * 43,
        "12345678-1234-5678-1234-567812345678",
    ],
)
def test_other_values_are_no_ids(arm: ModuleType, value: object) -> None:
    assert arm.is_sid(value) is False


@given(st.one_of(st.text(max_size=50), st.from_regex(r"[A-Za-z0-9_-]{42,44}", fullmatch=True)))
def test_both_arms_know_the_same_ids(arm: ModuleType, value: str) -> None:
    assert arm.is_sid(value) is _pure.is_sid(value)


@given(key=KEYS)
def test_a_signed_id_verifies_with_itsdangerous(arm: ModuleType, key: str | bytes) -> None:
    sid = arm.new_sid()
    assert signer(key).unsign(arm.sign_sid(sid, key)).decode() == sid


@given(key=KEYS)
def test_what_itsdangerous_signed_verifies(arm: ModuleType, key: str | bytes) -> None:
    signed = signer(key).sign("12345678-1234-5678-1234-567812345678").decode()
    assert arm.unsign_sid(signed, [key]) == "12345678-1234-5678-1234-567812345678"


def test_signing_gives_the_bytes_of_itsdangerous(arm: ModuleType) -> None:
    sid = arm.new_sid()
    assert arm.sign_sid(sid, "key") == signer("key").sign(sid).decode()


def test_any_of_several_keys_may_have_signed(arm: ModuleType) -> None:
    signed = arm.sign_sid("id", "old")
    assert arm.unsign_sid(signed, ["new", b"old"]) == "id"
    assert arm.unsign_sid(signed, ["new", "newer"]) is None
    assert arm.unsign_sid(signed, []) is None


@pytest.mark.parametrize("value", ["", ".", "id", "id.", ".x", "\udcff.x", "id.\udcff", "é.é"])
def test_what_is_not_signed_gives_none(arm: ModuleType, value: str) -> None:
    assert arm.unsign_sid(value, ["key"]) is None


def test_every_changed_character_breaks_a_signature(arm: ModuleType) -> None:
    signed = arm.sign_sid(arm.new_sid(), "key")
    for i, character in enumerate(signed):
        other = "A" if character != "A" else "B"
        assert arm.unsign_sid(signed[:i] + other + signed[i + 1 :], ["key"]) is None
    for damaged in (signed + "=", signed + "A", signed[:-1], " " + signed, signed + "\n"):
        assert arm.unsign_sid(damaged, ["key"]) is None


def test_an_id_may_hold_dots(arm: ModuleType) -> None:
    assert arm.unsign_sid(arm.sign_sid("a.b.c", "key"), ["key"]) == "a.b.c"
