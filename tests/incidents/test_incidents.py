"""None of the incidents that others had can happen here, and each test could notice it."""

import re
from pathlib import Path

import pytest
from incidents import INCIDENTS, Incident

pytestmark = pytest.mark.anyio

SECURITY = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")

each = pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)


@pytest.fixture
def servers(incident: Incident, request: pytest.FixtureRequest):
    return [request.getfixturevalue(name) for name in incident.servers]


@each
async def test_the_attack_fails(incident, servers):
    assert not await incident.attack(*servers)


@each
async def test_the_attack_succeeds_where_the_fault_is(incident, servers, monkeypatch):
    incident.fault(monkeypatch)
    assert await incident.attack(*servers)


def test_the_documentation_lists_each_of_them():
    listed = re.findall(r"^\| (CVE-\d+-\d+) \| (.*?) \|", SECURITY, re.MULTILINE)
    assert dict(listed) == {incident.name: incident.what for incident in INCIDENTS}
