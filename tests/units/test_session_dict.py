"""ServerSideSession as a dict, without a request."""

import copy
import json
import logging
import pickle

import pytest

from quart_session import ServerSideSession, SessionUnavailable

LOOKS = {
    "[]": lambda session: session["a"],
    "get": lambda session: session.get("b"),
    "in": lambda session: "b" in session,
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "keys": lambda session: session.keys(),
    "values": lambda session: session.values(),
    "items": lambda session: session.items(),
    "==": lambda session: session == {},
    "!=": lambda session: session != {},
    "== from the right": lambda session: {} == session,  # noqa: SIM300
    "|": lambda session: session | {},
    "| from the right": lambda session: {} | session,
    "dict()": dict,
    "**": lambda session: dict(**session),
    "{**}": lambda session: {**session},
    "update from it": lambda session: {}.update(session),
    "list": list,
    "copy": lambda session: session.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "json": json.dumps,
    "setdefault": lambda session: session.setdefault("a", 2),
    "pop": lambda session: session.pop("b", None),
    "permanent": lambda session: session.permanent,
    "sid": lambda session: session.sid,
    "addr": lambda session: session.addr,
    "new": lambda session: session.new,
    "set": lambda session: session.update(b=1),
    "del": lambda session: session.__delitem__("a"),
    "clear": lambda session: session.clear(),
    "popitem": lambda session: session.popitem(),
    "dirty": lambda session: session.dirty(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_at_it_in_any_way_marks_it_as_accessed(look):
    session = ServerSideSession({"a": 1})
    assert not session.accessed
    look(session)
    assert session.accessed


# json's encoder does not ask an empty dict; `permanent` is read by the framework itself.
RAISING = {name: look for name, look in LOOKS.items() if name not in ("json", "permanent")}


@pytest.mark.parametrize("look", RAISING.values(), ids=RAISING)
def test_looking_at_an_unavailable_session_raises(look):
    session = ServerSideSession()
    session._failure = OSError("down")
    with pytest.raises(SessionUnavailable) as raised:
        look(session)
    assert raised.value.code == 503
    assert raised.value.__cause__ is session._failure


def test_what_the_framework_touches_never_raises_on_an_unavailable_session():
    session = ServerSideSession()
    session._failure = OSError("down")
    session.accessed = True
    session.modified = True
    session.permanent = True
    assert (session.accessed, session.modified, session.permanent) == (False, True, False)
    assert session.available is False


def test_assigning_accessed_says_nothing():
    session = ServerSideSession()
    session.accessed = True
    assert session.accessed is False


CHANGES = {
    "[]=": (lambda session: session.__setitem__("a", 2), {"a": 2, "b": 1}),
    "del": (lambda session: session.__delitem__("a"), {"b": 1}),
    "pop": (lambda session: session.pop("a"), {"b": 1}),
    "popitem": (lambda session: session.popitem(), {"a": 1}),
    "setdefault": (lambda session: session.setdefault("c", 3), {"a": 1, "b": 1, "c": 3}),
    "update": (lambda session: session.update({"a": 3}, b=4), {"a": 3, "b": 4}),
    "update from pairs": (lambda session: session.update([("a", 5)]), {"a": 5, "b": 1}),
    "|=": (lambda session: session.__ior__({"a": 6}), {"a": 6, "b": 1}),
    "clear": (lambda session: session.clear(), {}),
}


@pytest.mark.parametrize(("change", "result"), CHANGES.values(), ids=CHANGES)
def test_changing_it_in_any_way_marks_it_as_modified(change, result):
    session = ServerSideSession({"a": 1, "b": 1})
    assert not session.modified
    change(session)
    assert session.modified
    assert session == result


FAILURES = {
    "del": lambda session: session.__delitem__("x"),
    "pop": lambda session: session.pop("x"),
    "[]": lambda session: session["x"],
    "del _addr": lambda session: session.__delitem__("_addr"),
}


@pytest.mark.parametrize("attempt", FAILURES.values(), ids=FAILURES)
def test_a_missing_key_is_a_key_error_and_no_change(attempt):
    session = ServerSideSession({"a": 1})
    with pytest.raises(KeyError):
        attempt(session)
    assert not session.modified


def test_pop_with_a_default_changes_nothing():
    session = ServerSideSession({"a": 1})
    assert session.pop("x", None) is None
    assert not session.modified


def test_it_is_a_dict():
    session = ServerSideSession({"a": 1})
    assert isinstance(session, dict)
    assert session == {"a": 1}
    assert session | {"b": 2} == {"a": 1, "b": 2}
    assert {"a": 0, "b": 2} | session == {"a": 1, "b": 2}
    assert list(reversed(session)) == ["a"]
    assert json.loads(json.dumps(session)) == {"a": 1}


def test_a_copy_is_the_plain_data():
    session = ServerSideSession({"a": [1], "_permanent": True}, sid="secret")
    for duplicate in (
        session.copy(),
        copy.copy(session),
        copy.deepcopy(session),
        pickle.loads(pickle.dumps(session)),
    ):
        assert type(duplicate) is dict
        assert duplicate == {"a": [1]}


class TestReservedKeys:
    @pytest.fixture
    def session(self):
        return ServerSideSession(
            {"_permanent": True, "_addr": "192.0.2.1", "a": 1, "_qs": {"created": 1}}
        )

    def test_are_not_among_the_data(self, session):
        assert list(session) == ["a"]
        assert len(session) == 1
        assert session == {"a": 1}
        assert dict(session) == {"a": 1}

    def test_of_version_3_are_served_by_name(self, session):
        assert session["_permanent"] is True
        assert session.get("_addr") == "192.0.2.1"
        assert "_addr" in session
        session["_addr"] = "192.0.2.2"
        assert session.addr == "192.0.2.2"
        session.update(_permanent=0)
        assert session.permanent is False
        del session["_addr"]
        assert "_addr" not in session
        assert session.addr is False
        assert session.pop("_permanent") is False
        assert session.get("_permanent", "none") == "none"

    def test_survive_clear(self, session):
        session.clear()
        assert session["_addr"] == "192.0.2.1"
        assert session.permanent
        assert not session

    def test_are_stored_before_the_data(self, session):
        assert list(session._document()) == ["_permanent", "_addr", "_qs", "a"]

    def test_cannot_be_overwritten_by_the_application(self, session):
        with pytest.raises(ValueError, match="'_qs' is reserved"):
            session["_qs"] = 1
        assert session._document()["_qs"] == {"created": 1}


def test_its_repr_shows_neither_id_nor_data():
    session = ServerSideSession({"password": "hunter2"}, sid="secret-id")
    assert repr(session) == "<ServerSideSession of 1 keys>"


def test_the_repr_of_its_origin_shows_neither():
    from quart_session.session import Origin

    assert "secret" not in repr(Origin("secret-id", "secret-id", b"secret", b"secret", None))


def test_assigning_false_to_modified_saves_nothing_until_something_is_set():
    session = ServerSideSession({"a": [1]})
    session["b"] = 1
    session.modified = False
    assert not session.modified
    assert not session._may_have_changed()
    session["c"] = 1
    assert session._may_have_changed()
    assert session._my_keys == {"b", "c"}


@pytest.mark.parametrize("name", ["self", "key", "default", "args"])
def test_any_name_can_be_updated_by_keyword(name):
    session = ServerSideSession()
    session.update(**{name: 1})
    assert session == {name: 1}


def test_its_id_is_made_when_it_is_first_needed():
    session = ServerSideSession()
    assert session._sid is None
    assert session.sid == session.sid
    assert len(session.sid) == 43


def test_its_id_cannot_be_chosen():
    session = ServerSideSession(sid="secret-id")
    with pytest.raises(AttributeError, match=r"session\.regenerate\(\) gives a new one"):
        session.sid = "planted"
    assert session.sid == "secret-id"


def test_a_change_after_the_save_is_logged_once(caplog):
    from quart_session.session import Phase

    session = ServerSideSession({"secret": 1}, sid="secret-id")
    session._phase = Phase.SAVED
    with caplog.at_level(logging.WARNING):
        session["a"] = 1
        session["b"] = 2
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text
