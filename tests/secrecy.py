"""No test may make anything log a session id: the whole suite is watched for it."""

from __future__ import annotations

import logging
import re

import pytest

from quart_session import _hotpath, commit, session

ID = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)


class Watch(logging.Handler):
    """Knows every id that was issued, and reads everything that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: set[str] = set()
        self.read = 0
        self.leaks: list[str] = []

    def issue(self) -> str:
        sid = _hotpath.new_sid()
        self.issued.add(sid)
        return sid

    def emit(self, record: logging.LogRecord) -> None:
        self.read += 1
        text = self.format(record)  # with the traceback, if there is one
        if self.issued.intersection(ID.findall(text)):
            self.leaks.append(f"{record.name} logged a session id: {text}")


watch = Watch()


def pytest_configure(config: pytest.Config) -> None:
    session.new_sid = commit.new_sid = watch.issue  # type: ignore[attr-defined]
    logging.getLogger().addHandler(watch)


@pytest.fixture(autouse=True)
def nobody_logs_a_session_id():
    watch.leaks.clear()
    yield
    assert watch.leaks == []
