"""The demo on each backend, and a browser to look at it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_process import DemoProcess
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


@pytest.fixture(params=["sqlite", "redis"])
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DemoProcess]:
    settings = {"SESSION_TYPE": request.param, "SESSION_SQLITE_PATH": str(tmp_path / "demo.db")}
    if request.param == "redis":
        settings["SESSION_URI"] = request.getfixturevalue("redis_server").url
    demo = DemoProcess(settings)
    try:
        demo.start()
        yield demo
    finally:
        if demo.process is not None:
            demo.stop()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    assert browser and driver, "Chromium and its chromedriver are missing: run sh .ci/servers"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-dev-shm-usage",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{flag}")
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, demo: DemoProcess) -> webdriver.Chrome:
    """A browser without cookies that has opened the demo."""
    chromium.get(demo.url)
    chromium.delete_all_cookies()
    chromium.get(demo.url)
    return chromium
