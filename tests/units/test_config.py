"""What a setting may be, and what an error says."""

from datetime import timedelta

import pytest
from quart import Quart

from quart_session import ConfigError, Session
from quart_session.config import SessionConfig


def test_the_defaults():
    config = SessionConfig.from_mapping({})
    assert (config.type, config.key_prefix, config.permanent) == ("sqlite", "session:", True)
    assert (config.hash_ids, config.tags, config.timeout) == (True, "full", 1.0)
    assert not (config.explicit or config.static_file or config.use_signer)


def test_none_is_the_default():
    assert SessionConfig.from_mapping({"SESSION_TYPE": None}).type == "sqlite"


@pytest.mark.parametrize("name", ["permanent", "explicit", "use_signer", "hash_ids", "protection"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_flag_may_be_0_or_1(name, value):
    config = SessionConfig.from_mapping({f"SESSION_{name.upper()}": value})
    assert getattr(config, name) is bool(value)


WRONG = [
    ("SESSION_TYPE", 5),
    ("SESSION_TYPE", ""),
    ("SESSION_SQLITE_PATH", 5),
    ("SESSION_SQLITE_PATH", "sqlite:///sessions.db"),
    ("SESSION_SQLITE_PATH", "file:sessions.db?mode=memory"),
    ("SESSION_MEMCACHED_HOST", "cache.test:11211"),
    ("SESSION_MEMCACHED_HOST", "memcached://cache.test"),
    ("SESSION_MEMCACHED_HOST", "[::1]"),
    ("SESSION_FILE_DIR", 5),
    ("SESSION_FILE_MODE", "600"),
    ("SESSION_FILE_MODE", 600),  # which is 0o1130
    ("SESSION_FILE_MODE", 0o400),
    ("SESSION_FILE_MODE", -1),
    ("SESSION_FILE_THRESHOLD", -1),
    ("SESSION_FILE_THRESHOLD", True),
    ("SESSION_MONGODB_COLLECTION", ""),
    ("SESSION_MONGODB_SET_CALLBACK", "callback"),
    ("SESSION_KEY_PREFIX", 5),
    ("SESSION_PERMANENT", "false"),
    ("SESSION_EXPLICIT", 2),
    ("SESSION_STATIC_FILE", "yes"),
    ("SESSION_USE_SIGNER", 1.0),
    ("SESSION_HASH_IDS", "no"),
    ("SESSION_TAGS", "json"),
    ("SESSION_TIMEOUT", 0),
    ("SESSION_TIMEOUT", True),
    ("SESSION_TIMEOUT", float("nan")),
    ("SESSION_TIMEOUT", timedelta(seconds=1)),
    ("SESSION_PROTECTION", "yes"),
    ("SESSION_PROTECTION", 2),
    ("SESSION_PROTECTION_IPV4_PREFIX", 0),
    ("SESSION_PROTECTION_IPV4_PREFIX", 33),
    ("SESSION_PROTECTION_IPV4_PREFIX", True),
    ("SESSION_PROTECTION_IPV4_PREFIX", "24"),
    ("SESSION_REVERSE_PROXY", -1),
    ("SESSION_REVERSE_PROXY", 1.5),
    ("SESSION_REVERSE_PROXY", "10.0.0.0/8"),
    ("SESSION_REVERSE_PROXY", "X-Forwarded-For"),
    ("SESSION_REVERSE_PROXY", []),
    ("SESSION_REVERSE_PROXY", ["10.0.0.1/8"]),
    ("SESSION_REVERSE_PROXY", ["10.0.0.0/8", "proxy.example"]),
    ("SESSION_REVERSE_PROXY", ["10.0.0.0/8", None]),
    ("SESSION_REVERSE_PROXY", [10]),
    ("SESSION_REVERSE_PROXY_HEADER", "X-Real-IP"),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_an_error_that_names_key_value_and_what_is_allowed(key, value):
    with pytest.raises(ConfigError) as raised:
        SessionConfig.from_mapping({key: value})
    assert str(raised.value).startswith(f"{key} = {value!r} is not allowed: it takes ")


@pytest.mark.parametrize(
    "key",
    [
        "SESSION_URI",
        "SESSION_REDIS",
        "SESSION_MONGODB",
        "SESSION_MONGODB_URI",
        "SESSION_MONGODB_CLIENT_KWARGS",
    ],
)
def test_a_wrong_address_is_not_shown_since_it_may_hold_a_password(key):
    value = b"redis://:hunter2@host" if key.endswith("_URI") else "redis://:hunter2@host"
    with pytest.raises(ConfigError) as raised:
        SessionConfig.from_mapping({key: value})
    assert str(raised.value).startswith(f"{key} = ({type(value).__name__}) is not allowed")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "key",
    ["SESSION_URI", "SESSION_REDIS", "SESSION_MEMCACHED", "SESSION_MONGODB", "SESSION_MONGODB_URI"],
)
def test_who_says_where_a_server_is_must_say_of_which_kind(key):
    """SQLite, the default, would take its place and nobody would notice."""
    server = "redis://:hunter2@host" if key.endswith("_URI") else Server()
    with pytest.raises(ConfigError, match=f"{key} is set and SESSION_TYPE is not") as raised:
        SessionConfig.from_mapping({key: server})
    assert "hunter2" not in str(raised.value)
    SessionConfig.from_mapping({key: server, "SESSION_TYPE": "redis"})


class Server:
    """What looks like a client of Redis, memcached and MongoDB."""

    def execute_command(self): ...

    gets = get_default_database = execute_command


def test_an_old_name_counts_where_the_new_one_is_none():
    mapping = {"SESSION_PROTECTION": None, "SESSION_HIJACK_PROTECTION": True}
    assert SessionConfig.from_mapping(mapping).protection is True


REFUSED = {
    "a __Secure- name without Secure": {"SESSION_COOKIE_NAME": "__Secure-id"},
    "a __Host- name without Secure": {"SESSION_COOKIE_NAME": "__Host-id"},
    "another spelling of __Host- without Secure": {"SESSION_COOKIE_NAME": "__hOsT-id"},
    "a __Http- name without HttpOnly": {
        "SESSION_COOKIE_NAME": "__Http-id",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": False,
    },
    "a __Host-Http- name without HttpOnly": {
        "SESSION_COOKIE_NAME": "__Host-Http-id",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": False,
    },
    "a __Host- name with a root": {
        "SESSION_COOKIE_NAME": "__Host-id",
        "SESSION_COOKIE_SECURE": True,
        "APPLICATION_ROOT": "/app",
    },
    "no name": {"SESSION_COOKIE_NAME": ""},
    "a name with a space": {"SESSION_COOKIE_NAME": "my session"},
    "a name with a semicolon": {"SESSION_COOKIE_NAME": "session;"},
    "a name that is no ASCII": {"SESSION_COOKIE_NAME": "s\u00e9ance"},
    "a path without a slash": {"SESSION_COOKIE_PATH": "app"},
    "Secure in words": {"SESSION_COOKIE_SECURE": "false"},
    "HttpOnly in words": {"SESSION_COOKIE_HTTPONLY": "no"},
    "Partitioned in words": {"SESSION_COOKIE_PARTITIONED": "no", "SESSION_COOKIE_SECURE": True},
    "Partitioned without Secure": {"SESSION_COOKIE_PARTITIONED": True},
    "a __Host- name with a domain": {
        "SESSION_COOKIE_NAME": "__Host-id",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_DOMAIN": "example.org",
    },
    "a __Host- name with a path": {
        "SESSION_COOKIE_NAME": "__Host-id",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_PATH": "/app",
    },
    "an unknown SameSite": {"SESSION_COOKIE_SAMESITE": "lx"},
    "SameSite=None without Secure": {"SESSION_COOKIE_SAMESITE": "None"},
    "a lifetime in words": {"PERMANENT_SESSION_LIFETIME": "3600"},
    "a lifetime of None": {"PERMANENT_SESSION_LIFETIME": None},
    "a lifetime of nothing": {"PERMANENT_SESSION_LIFETIME": timedelta(0)},
    "a refresh in words": {"SESSION_REFRESH_EACH_REQUEST": "false"},
    "an empty fallback key": {
        "SESSION_USE_SIGNER": True,
        "SECRET_KEY": "new",
        "SECRET_KEY_FALLBACKS": ["old", ""],
    },
    "fallback keys that are one string": {
        "SESSION_USE_SIGNER": True,
        "SECRET_KEY": "new",
        "SECRET_KEY_FALLBACKS": "old",
    },
}


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED)
def test_what_no_browser_or_no_request_could_use_is_refused_at_start_up(config, tmp_path):
    app = Quart(__name__, instance_path=str(tmp_path))
    app.config.update(config)
    with pytest.raises(ConfigError, match=" is not allowed"):
        Session(app)


@pytest.mark.parametrize("name", ["PROTECTION", "REVERSE_PROXY"])
def test_an_old_name_is_understood_and_mentioned(name, caplog):
    config = SessionConfig.from_mapping({f"SESSION_HIJACK_{name}": True})
    assert caplog.messages == [f"SESSION_HIJACK_{name} is now called SESSION_{name}"]
    assert getattr(config, name.lower()) is True


def test_keys_of_other_stores_and_of_other_extensions_are_left_alone(caplog):
    SessionConfig.from_mapping(
        {
            "SESSION_MEMCACHED": None,
            "SESSION_FILE_DIR": "/tmp/x",
            "SESSION_COOKIE_NAME": "s",
            "SESSION_REFRESH_EACH_REQUEST": True,
            "SESSION_SERIALIZATION_FORMAT": "json",
            "OTHER": 5,
        }
    )
    assert caplog.messages == []


def test_a_misspelt_key_is_mentioned(caplog):
    SessionConfig.from_mapping({"SESSION_EXPLICT": True})
    assert caplog.messages == ["SESSION_EXPLICT is not a setting; did you mean SESSION_EXPLICIT?"]


@pytest.mark.parametrize(
    ("session_type", "said"),
    [
        ("reddis", "redis"),
        ("nonsense", "sqlite"),
        (object(), "SESSION_TYPE"),
    ],
)
def test_a_store_that_does_not_exist_is_an_error_at_start_up(session_type, said, tmp_path):
    app = Quart(__name__, instance_path=str(tmp_path))
    app.config["SESSION_TYPE"] = session_type
    with pytest.raises(ConfigError, match=said):
        Session(app)
