"""The demo without a browser: what it answers, and what it leaves in the backend."""

from __future__ import annotations

import hashlib
import html
import os
import re
import subprocess
import sys

import httpx
import pytest
import redis
from demo_process import APP, DemoProcess


def test_a_visitor_who_only_looks_around_gets_no_session(demo: DemoProcess) -> None:
    with httpx.Client(base_url=demo.url) as client:
        for _ in range(3):
            page = client.get("/")
            assert page.status_code == 200
            assert "set-cookie" not in page.headers
        assert "set-cookie" not in client.get("/static/demo.css").headers


def test_every_form_answers_with_a_redirect_to_the_page(demo: DemoProcess) -> None:
    with httpx.Client(base_url=demo.url) as client:
        for path, form in (
            ("/login", {"name": "Ada"}),
            ("/cart", {"item": "Tea"}),
            ("/logout", {}),
        ):
            answer = client.post(path, data=form)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("form", [{}, {"name": ""}, {"name": "  "}])
def test_a_login_without_a_name_logs_nobody_in(demo: DemoProcess, form: dict[str, str]) -> None:
    with httpx.Client(base_url=demo.url) as client:
        assert "set-cookie" not in client.post("/login", data=form).headers


@pytest.mark.parametrize("demo", ["redis"], indirect=True)
def test_the_panel_is_the_record_byte_for_byte(demo: DemoProcess) -> None:
    with httpx.Client(base_url=demo.url, follow_redirects=True) as client:
        client.post("/login", data={"name": "Zoë & <Ada>"})
        page = client.post("/cart", data={"item": "Tea"}).text
        sid = client.cookies["session"]
    shown = re.search(r'<pre id="raw"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert shown is not None
    key = "session:" + hashlib.sha256(sid.encode()).hexdigest()
    with redis.Redis.from_url(demo.environment["SESSION_URI"]) as server:
        assert html.unescape(shown[1]).encode() == server.get(key)


@pytest.mark.parametrize("demo", ["sqlite"], indirect=True)
def test_a_port_in_use_is_said_in_one_line(demo: DemoProcess) -> None:
    second = subprocess.run(
        [sys.executable, APP],
        env=os.environ | {"PORT": str(demo.port), "SESSION_TYPE": "memory"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"Port {demo.port} cannot be used")
