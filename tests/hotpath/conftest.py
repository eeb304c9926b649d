"""Runs every test of this folder on both arms. A missing extension is an error, never a skip."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import pytest

from quart_session import _pure
from quart_session.serializer import SerializerMethods

PURE_WHEEL = os.environ.get("QUART_SESSION_NO_EXTENSIONS", "") not in ("", "0")
ARMS = ["pure"] if PURE_WHEEL else ["compiled", "pure"]


@pytest.fixture(scope="session", params=ARMS)
def arm(request: pytest.FixtureRequest) -> ModuleType:
    """The module of one arm."""
    if request.param == "pure":
        return _pure
    from quart_session import _speedups

    return _speedups


@pytest.fixture(scope="session")
def serializer_type(arm: ModuleType) -> type[Any]:
    """The serializer's class on that arm."""
    return type("TaggedJSONSerializer", (SerializerMethods, arm.Codec), {})


@pytest.fixture
def serializer(serializer_type: type[Any]) -> Any:
    """A serializer that writes all tags."""
    return serializer_type()


@pytest.fixture
def flask_mode(serializer_type: type[Any]) -> Any:
    """A serializer that writes what Flask writes."""
    return serializer_type("flask")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the extension there is nothing to compare."""
    if PURE_WHEEL:
        comparing = [item for item in items if item.get_closest_marker("both_arms")]
        config.hook.pytest_deselected(items=comparing)
        items[:] = [item for item in items if item not in comparing]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_arms: needs the compiled and the pure arm")
