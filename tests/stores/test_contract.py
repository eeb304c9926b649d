"""Every store keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from quart_session.stores.memory import MemoryStore
from quart_session.stores.sqlite import SQLiteStore
from quart_session.testing import StoreContract

BOTH = ("asyncio", "trio")


class TestMemory(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestSQLite(StoreContract):
    backends = BOTH

    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "sessions.sqlite3")
