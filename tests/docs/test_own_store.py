"""The store that the documentation shows keeps the contract."""

import re
import sys
import types
from pathlib import Path

import pytest
from quart import Quart, session

from quart_session import ConfigError, Session
from quart_session.config import SessionConfig
from quart_session.testing import StoreContract

PAGE = (Path(__file__).parents[2] / "docs" / "stores-of-your-own.md").read_text(encoding="utf-8")
STORE, TEST, INSTANCE, NAME = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

module = types.ModuleType("dbm_sessions")
exec(STORE, module.__dict__)
DBMStore = module.DBMStore


class TestDBMStore(StoreContract):
    backends = ("asyncio", "trio")

    @pytest.fixture
    def store(self, tmp_path):
        return DBMStore(str(tmp_path / "sessions"))


def test_its_test_is_the_one_that_is_shown(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "dbm_sessions", module)
    shown = {}
    exec(TEST, shown)
    assert issubclass(shown["TestDBMStore"], StoreContract)
    assert shown["TestDBMStore"].backends == TestDBMStore.backends
    tests = [item for item in request.session.items if item.cls is TestDBMStore]
    if len(tests) > 100:  # not when only some of them were asked for
        assert f"{len(tests)} tests read, write" in PAGE


@pytest.mark.anyio
async def test_an_instance_serves_an_application(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = Quart("shop")
    exec(INSTANCE, {"app": app, "DBMStore": DBMStore})
    Session(app)

    @app.post("/")
    async def count():
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    browser = app.test_client()
    assert [await (await browser.post("/")).get_data() for _ in range(3)] == [b"1", b"2", b"3"]


def test_the_settings_of_an_application_make_it():
    config = {}
    exec(NAME, {"app": types.SimpleNamespace(config=config)})
    assert config["SESSION_TYPE"] == "dbm"
    assert isinstance(DBMStore.from_config(SessionConfig.from_mapping(config)), DBMStore)
    with pytest.raises(ConfigError, match="expected dbm:"):
        DBMStore.from_config(SessionConfig.from_mapping({}))
