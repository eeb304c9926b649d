"""Links between the pages of the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

import quart_session

ROOT = Path(__file__).parents[2]
PACKAGE = Path(quart_session.__file__).parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def headings(page):
    """The headings of *page* as the ends of links spell them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    for name, heading in links:
        target = page.parent / name if name else page
        if name.startswith("../quart_session/"):  # which may be installed elsewhere
            target = PACKAGE.parent / name.removeprefix("../")
        assert target.exists(), name
        assert not heading or heading in headings(target), f"{name}#{heading}"


def test_the_pages_have_links():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert len(re.findall(r"\]\((?!http)[^)]+\.md", text)) >= 10
