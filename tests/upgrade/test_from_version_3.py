"""The published version 3.0.0, in an environment of its own, beside this one on one server."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

APPLICATION = Path(__file__).with_name("application.py")
PACKAGE = Path(__file__).parents[2]

TOUR = ["/foo", "/", "/foo", "/login", "/me", "/permanent", "/cache", "/logout", "/foo"]


@pytest.fixture(scope="session")
def version_3(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that has Quart-Session 3.0.0, made once."""
    folder = request.config.cache.mkdir(f"version-3.0.0-and-clients-on-{sys.version_info.minor}")
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = ["quart-session==3.0.0", "quart>=0.20", "redis>=5", "aiomcache"]
        command = [python, "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True)
        complete.touch()
    return python


@pytest.fixture(params=["redis", "memcached"])
def run(request, version_3, tmp_path):
    """Let one version of Quart-Session run the application in a process of its own."""
    url = request.getfixturevalue(f"{request.param}_server").url

    def run(version: int, paths: list[str], **order):
        python = version_3 if version == 3 else sys.executable
        result = subprocess.run(
            [python, APPLICATION, json.dumps({"url": url, "paths": paths, **order})],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": "" if version == 3 else os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("own_client", [False, True], ids=["settings", "before_serving"])
def test_an_application_of_version_3_runs_unchanged(run, own_client):
    before = run(3, TOUR, own_client=own_client)
    after = run(4, TOUR, own_client=own_client)
    assert {status for status, _ in after["answers"]} == {200}
    assert after["answers"] == before["answers"]


def test_the_session_carries_the_address(run):
    status, answer = run(4, ["/login", "/addr"])["answers"][-1]
    assert status == 200
    assert json.loads(answer) == {"item": "<local>", "attribute": "<local>", "has": True}


def test_a_session_of_version_3_is_continued(run):
    sid = run(3, ["/login"])["sid"]
    after = run(4, ["/me", "/addr", "/", "/me", "/foo"], sid=sid)
    _, me = after["answers"][0]
    assert all(json.loads(me)["same"].values())
    assert after["sid"] == sid
    assert after["answers"][-1] == [200, "bar"]
    assert run(4, ["/foo"], sid=sid)["answers"] == [[200, "bar"]]


def test_both_versions_run_side_by_side(run):
    rolling = {"SESSION_HASH_IDS": False, "SESSION_TAGS": "flask"}
    old = run(3, ["/login"])["sid"]
    assert run(4, ["/me", "/"], sid=old, settings=rolling)["sid"] == old
    assert run(3, ["/foo"], sid=old)["answers"] == [[200, "bar"]]

    new = run(4, ["/login"], settings=rolling)["sid"]
    ours = run(4, ["/me"], sid=new, settings=rolling)["answers"]
    theirs = run(3, ["/me"], sid=new)["answers"]
    assert theirs == ours
    assert all(json.loads(ours[0][1])["same"].values())


def test_a_logout_of_this_version_ends_a_session_of_version_3_for_both(run):
    sid = run(3, ["/login"])["sid"]
    run(4, ["/me", "/logout"], sid=sid)
    for version in (3, 4):
        _, me = run(version, ["/me"], sid=sid)["answers"][0]
        assert json.loads(me)["keys"] == []
