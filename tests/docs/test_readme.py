"""What the README shows, run."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from quart_session.config import SessionConfig

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
APPLICATIONS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def run(tmp_path, monkeypatch, redis_server):
    """Run an example in an empty folder, with the test's Redis; return its application."""
    apps = []

    def run(code):
        monkeypatch.chdir(tmp_path)
        namespace = {"__name__": "readme_example"}
        exec(code.replace("redis://localhost:6379/0", redis_server.url), namespace)
        apps.append(namespace["app"])
        return namespace["app"]

    yield run
    for app in apps:
        await app.session_interface.close()


async def test_the_first_application_keeps_a_cart(run):
    async with run(APPLICATIONS[0]).test_app() as running:
        browser = running.test_client()
        await browser.post("/cart/tea")
        await browser.post("/cart/milk")
        assert await (await browser.get("/")).get_json() == {"cart": ["tea", "milk"]}
        await browser.post("/logout")
        assert await (await browser.get("/")).get_json() == {"cart": []}


async def test_the_redis_application_counts(run):
    async with run(APPLICATIONS[1]).test_app() as running:
        browser = running.test_client()
        answers = [await (await browser.get("/")).get_data(as_text=True) for _ in range(3)]
        assert answers == ["1", "2", "3"]


async def test_the_application_with_users_lists_and_ends_their_sessions(run):
    app = run(APPLICATIONS[2])
    phone, laptop = app.test_client(), app.test_client()
    await phone.post("/login/ada", headers={"User-Agent": "phone"})
    await laptop.post("/login/ada", headers={"User-Agent": "laptop"})
    devices = await (await laptop.get("/devices")).get_json()
    assert [(device[1], device[3]) for device in devices] == [("phone", False), ("laptop", True)]
    await laptop.post(f"/devices/{devices[0][0]}/revoke")
    assert len(await (await laptop.get("/devices")).get_json()) == 1
    await phone.post("/login/ada")
    await laptop.post("/password")
    assert len(await (await laptop.get("/devices")).get_json()) == 1


async def test_the_cache_application_remembers(run):
    app = run(APPLICATIONS[3])
    for _ in range(2):
        assert await (await app.test_client().get("/")).get_data(as_text=True) == "sunny"
    assert await app.session_interface.get("weather") == "sunny"


def test_every_example_is_run():
    assert len(APPLICATIONS) == 4


def test_the_table_of_settings_is_complete_and_its_defaults_are_right():
    rows = dict(re.findall(r"^\| `(SESSION_\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    assert rows == {
        f"SESSION_{setting.name.upper()}": repr(setting.default).replace("'", '"')
        for setting in fields(SessionConfig)
        if setting.metadata
    }
