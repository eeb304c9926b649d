"""What docs/security.md says is proved by a test that is there."""

import re
from pathlib import Path

import pytest
from quart import Quart

from quart_session import Session

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "docs/security.md").read_text(encoding="utf-8")
PROOFS = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", SECURITY)))


def test_there_are_proofs():
    assert len(PROOFS) > 30


@pytest.mark.parametrize(("path", "name"), PROOFS)
def test_the_proof_exists(path, name):
    source = (ROOT / "tests" / path).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?def {name}\(", source, re.MULTILINE)


def test_the_hardened_deployment_starts(monkeypatch):
    [code] = re.findall(r"```python\n(from datetime import timedelta.*?)```", SECURITY, re.DOTALL)
    monkeypatch.setenv("SECRET_KEY", "a secret key of the tests")
    monkeypatch.setenv("SESSION_KEY", "k" * 43)
    app = Quart(__name__)
    exec("import os\n" + code, {"app": app})
    app.config["SESSION_TYPE"] = "memory"
    Session(app)
    assert app.session_interface.config.encryption_keys
