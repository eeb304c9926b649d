"""The arm that runs is the arm that was asked for, so that a missing extension is an error."""

import os

import quart_session


def test_the_extension_is_used_unless_the_pure_arm_was_asked_for() -> None:
    asked_for_pure = os.environ.get("QUART_SESSION_PURE_PYTHON", "") not in ("", "0")
    assert quart_session.COMPILED is not asked_for_pure
