"""The watch that reads all logs of the suite sees what it must."""

import logging
import traceback

from secrecy import watch

from quart_session import ServerSideSession


def leaks():
    found = list(watch.leaks)
    watch.leaks.clear()
    return found


def test_an_id_in_a_log_is_seen():
    logging.getLogger("anybody").warning(
        "the cookie was session=%s; Path=/", ServerSideSession().sid
    )
    assert len(leaks()) == 1


def test_an_id_in_a_logged_traceback_is_seen():
    try:
        raise ValueError(ServerSideSession().sid)
    except ValueError:
        logging.getLogger("anybody").exception("failed")
    assert len(leaks()) == 1


def test_other_text_is_no_id():
    logging.getLogger("anybody").warning("session %s", "x" * 43)
    assert leaks() == []


def test_neither_id_nor_data_are_in_the_repr_of_a_session():
    session = ServerSideSession({"user": "ada"})
    sid = session.sid
    for text in (repr(session), str(session), f"{session}"):
        assert sid not in text
        assert "ada" not in text


def test_neither_are_in_a_traceback_through_it():
    session = ServerSideSession({"user": "ada"})
    sid = session.sid
    try:
        session["missing"]
    except KeyError:
        text = traceback.format_exc()
    assert sid not in text
    assert "ada" not in text
