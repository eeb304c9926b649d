"""Every ``SESSION_*`` key: its default, its check and its old name."""

from __future__ import annotations

import logging
import math
import os
import re
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from werkzeug.wrappers import Response

from quart_session.address import HEADERS, read_networks
from quart_session.errors import ConfigError

if TYPE_CHECKING:
    from quart import Quart

    from quart_session.stores.base import Store

logger = logging.getLogger("quart_session")

# A name, an IPv4 address or an IPv6 one.
_HOST = re.compile(r"[^\s:/?#@\[\]]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Za-z:.%]*")
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

OLD_NAMES = {
    "SESSION_HIJACK_PROTECTION": "SESSION_PROTECTION",
    "SESSION_HIJACK_REVERSE_PROXY": "SESSION_REVERSE_PROXY",
}


def _setting(
    default: Any,
    allowed: str,
    accepts: Callable[[Any], bool],
    *,
    read: Callable[[Any], Any] | None = None,
    secret: bool = False,
) -> Any:
    """One field of :class:`SessionConfig`.

    :param allowed: completes the sentence "it takes …".
    :param accepts: whether a value is one of those.
    :param read: makes of an accepted value what the field holds.
    :param secret: whether the value must not be shown.
    """
    metadata = {
        "allowed": allowed,
        "accepts": accepts,
        "read": read or _seconds,
        "secret": secret,
    }
    return field(default=default, metadata=metadata, repr=not secret)


def _flag(default: bool) -> Any:
    return _setting(default, "True or False", _is_flag, read=bool)


def _is_flag(value: Any) -> bool:
    """0 and 1 are flags as well: an application of version 3 may have them."""
    return isinstance(value, int) and value in (0, 1)


def _seconds(value: Any) -> Any:
    """A timedelta as seconds, anything else as it is."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def _is_seconds(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _read_key(value: Any) -> bytes | None:
    """The 32 bytes of a key; ``None`` if it is none."""
    if isinstance(value, str):
        try:
            value = b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True)
        except ValueError:
            return None
    return value if isinstance(value, bytes) and len(value) == 32 else None


def _read_moment(value: Any) -> float | None:
    """Seconds since the epoch; ``None`` if it is no moment."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.timestamp() if isinstance(value, datetime) and value.tzinfo else None


def _is_proxies(value: Any) -> bool:
    if isinstance(value, int):
        return value >= 0
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        return False
    if not all(isinstance(network, str) for network in value):
        return False
    try:
        read_networks(value)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    """The checked settings of one application; ``SESSION_KEY_PREFIX`` is :attr:`key_prefix`.

    ``None`` stands for the default everywhere.

    .. versionadded:: 4.0
    """

    type: str | Store = _setting(
        "sqlite",
        "the name of a store or an instance of quart_session.stores.base.Store",
        lambda value: not isinstance(value, bool | int | float | bytes | type) and value != "",
    )
    uri: str | None = _setting(
        None,
        "a URL such as 'redis://localhost:6379/0'",
        lambda value: isinstance(value, str),
        secret=True,  # it may hold a password
    )
    redis: Any = _setting(
        None,
        "an instance of redis.asyncio.Redis or RedisCluster, under Trio of RedisTrio, "
        "coredis.Redis or coredis.RedisCluster; a URL goes into SESSION_URI",
        lambda value: callable(getattr(value, "execute_command", None)),
        secret=True,
    )
    memcached: Any = _setting(
        None,
        "an instance of aiomcache.Client or emcache.Client",
        lambda value: callable(getattr(value, "gets", None)),
        secret=True,
    )
    memcached_host: str = _setting(
        "127.0.0.1",
        "the name or address of a host; a port goes into SESSION_MEMCACHED_PORT, "
        "a URL into SESSION_URI",
        lambda value: isinstance(value, str) and _HOST.fullmatch(value) is not None,
    )
    memcached_port: int | str = _setting(
        11211,
        "the number of a port",
        lambda value: str(value).isdecimal() and 0 < int(value) < 2**16,
    )
    sqlite_path: str | os.PathLike[str] | None = _setting(
        None,
        "the path of a file, which is no URL",
        lambda value: (
            isinstance(value, os.PathLike)
            or (isinstance(value, str) and not value.startswith(("sqlite:", "file:")))
        ),
    )
    mongodb: Any = _setting(
        None,
        "an instance of pymongo.AsyncMongoClient; a URI goes into SESSION_MONGODB_URI",
        lambda value: callable(getattr(value, "get_default_database", None)),
        secret=True,
    )
    mongodb_uri: str | None = _setting(
        None,
        "a URI such as 'mongodb://localhost:27017/shop'",
        lambda value: isinstance(value, str),
        secret=True,
    )
    mongodb_collection: str = _setting(
        "sessions", "a string", lambda value: isinstance(value, str) and value != ""
    )
    mongodb_client_kwargs: Mapping[str, Any] | None = _setting(
        None,
        "a dict of arguments of pymongo.AsyncMongoClient",
        lambda value: isinstance(value, Mapping),
        secret=True,
    )
    mongodb_set_callback: Callable[[dict[str, Any]], object] | None = _setting(
        None, "a function of one argument, the document", callable
    )
    file_dir: str | os.PathLike[str] | None = _setting(
        None, "the path of a folder", lambda value: isinstance(value, str | os.PathLike)
    )
    file_mode: int = _setting(
        0o600,
        "a mode such as 0o600, in which the owner can read and write",
        lambda value: type(value) is int and 0o600 <= value <= 0o777 and value & 0o600 == 0o600,
    )
    file_threshold: int = _setting(
        500, "a whole number", lambda value: type(value) is int and value >= 0
    )
    key_prefix: str = _setting("session:", "a string", lambda value: isinstance(value, str))
    permanent: bool = _flag(True)
    explicit: bool = _flag(False)
    static_file: bool = _flag(False)
    use_signer: bool = _flag(False)
    hash_ids: bool = _flag(True)
    tags: Literal["full", "flask"] = _setting(
        "full", "'full' or 'flask'", lambda value: value in ("full", "flask")
    )
    timeout: float = _setting(1.0, "a positive number of seconds", _is_seconds)
    on_outage: Literal["raise", "anonymous"] = _setting(
        "raise", "'raise' or 'anonymous'", lambda value: value in ("raise", "anonymous")
    )
    max_bytes: int = _setting(1_000_000, "a positive whole number", _is_count)
    absolute_lifetime: float | None = _setting(
        None,
        "a positive number of seconds or a timedelta",
        lambda value: _is_seconds(_seconds(value)),
    )
    renew_after: float | None = _setting(
        None,
        "a number of seconds or a timedelta, a minute at least",
        lambda value: _is_seconds(_seconds(value)) and _seconds(value) >= 60,
    )
    user_key: str | None = _setting(
        None, "the name of a key of the session", lambda value: isinstance(value, str)
    )
    max_per_user: int | None = _setting(None, "a positive whole number", _is_count)
    protection: Literal[False, True, "delete", "reject", "log"] = _setting(
        False,
        "False, True, 'delete', 'reject' or 'log'",
        lambda value: _is_flag(value) or value in ("delete", "reject", "log"),
        read=lambda value: bool(value) if _is_flag(value) else value,
    )
    protection_ipv4_prefix: int = _setting(
        32,
        "a whole number from 8 to 32",
        lambda value: isinstance(value, int) and 8 <= value <= 32,
    )
    reverse_proxy: int | Collection[str] = _setting(
        False,
        "False, True, the number of proxies, or a list of their networks such as "
        "['10.0.0.0/8', 'unix:']",
        _is_proxies,
    )
    reverse_proxy_header: Literal["X-Forwarded-For", "Forwarded"] = _setting(
        "X-Forwarded-For",
        "'X-Forwarded-For' or 'Forwarded'",
        lambda value: value in HEADERS,
    )
    encryption_keys: tuple[bytes, ...] | None = _setting(
        None,
        "a list of keys, each 32 random bytes or what secrets.token_urlsafe(32) gives",
        lambda value: all(_read_key(key) for key in value) if _is_list(value) else False,
        secret=True,
        read=lambda value: tuple(_read_key(key) for key in value),
    )
    encryption_plaintext_until: float | None = _setting(
        None,
        "a datetime with a time zone, or its text such as '2030-01-31T12:00+00:00'",
        lambda value: _read_moment(value) is not None,
        read=_read_moment,
    )

    instance_path: str = ""
    """The application's instance folder, where SQLite and files lie by default."""

    trio: bool = False
    """Whether the application runs under Trio."""

    @classmethod
    def from_app(cls, app: Quart) -> SessionConfig:
        """Read and check ``app.config``.

        :raises ConfigError: a value is wrong; names the key, the value and what is allowed.
        """
        config = cls.from_mapping(
            app.config, instance_path=str(app.instance_path), trio=_runs_on_trio(app)
        )
        _check_signer(app, config)
        _check_lifetime(app)
        _check_cookie(app)
        return config

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], *, instance_path: str = "", trio: bool = False
    ) -> SessionConfig:
        """Check the ``SESSION_*`` keys of *mapping*; other keys are left alone.

        :raises ConfigError: a value is wrong; names the key, the value and what is allowed.
        """
        given = {
            key: value
            for key, value in mapping.items()
            if key.startswith("SESSION_") and value is not None
        }
        for old, new in OLD_NAMES.items():
            if old in given:
                logger.warning("%s is now called %s", old, new)
                given.setdefault(new, given.pop(old))

        settings: dict[str, Any] = {}
        for setting in fields(cls):
            key = f"SESSION_{setting.name.upper()}"
            value = given.pop(key, None)
            if value is None or not setting.metadata:  # no setting
                continue
            if not setting.metadata["accepts"](value):
                shown = f"({type(value).__name__})" if setting.metadata["secret"] else repr(value)
                raise ConfigError(
                    f"{key} = {shown} is not allowed: it takes {setting.metadata['allowed']}"
                )
            settings[setting.name] = setting.metadata["read"](value)
        _check_type(settings)
        _hint_at_misspellings(given)
        return cls(**settings, instance_path=instance_path, trio=trio)


def _runs_on_trio(app: Quart) -> bool:
    return any(base.__module__.partition(".")[0] == "quart_trio" for base in type(app).__mro__)


def _check_type(settings: Mapping[str, Any]) -> None:
    """Who says where a server is, but not of which kind, would get SQLite."""
    servers = {"uri", "redis", "memcached", "mongodb", "mongodb_uri"} & settings.keys()
    if servers and "type" not in settings:
        raise ConfigError(
            f"SESSION_{min(servers).upper()} is set and SESSION_TYPE is not: "
            "set SESSION_TYPE = 'redis', 'memcached' or 'mongodb', whichever it is"
        )


def _hint_at_misspellings(unknown: Mapping[str, Any]) -> None:
    """Other extensions own ``SESSION_*`` keys too, so a stranger is no error."""
    ours = [f"SESSION_{setting.name.upper()}" for setting in fields(SessionConfig)]
    for key in unknown:
        if close := get_close_matches(key, ours, n=1, cutoff=0.9):
            logger.warning("%s is not a setting; did you mean %s?", key, close[0])


def _refuse(key: str, value: object, why: str) -> NoReturn:
    raise ConfigError(f"{key} = {value!r} is not allowed: {why}")


def _check_signer(app: Quart, config: SessionConfig) -> None:
    if not config.use_signer:
        return
    if not app.secret_key:
        raise ConfigError(
            "SESSION_USE_SIGNER = True needs a secret key: set app.secret_key before Session(app)"
        )
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
    if isinstance(fallbacks, str | bytes):
        raise ConfigError("SECRET_KEY_FALLBACKS is not allowed as one string: it takes a list")
    if not all(fallbacks):  # anybody could sign with an empty one
        raise ConfigError("SECRET_KEY_FALLBACKS is not allowed to hold an empty key")


def _check_lifetime(app: Quart) -> None:
    key = "PERMANENT_SESSION_LIFETIME"
    try:
        seconds = app.permanent_session_lifetime.total_seconds()
    except (TypeError, AttributeError):
        _refuse(key, app.config[key], "it takes a timedelta or a number of seconds")
    if seconds <= 0:
        _refuse(key, app.config[key], "sessions need a lifetime of more than 0 seconds")


def _check_cookie(app: Quart) -> None:
    """Refuse what browsers refuse: without a cookie, every request would begin a new session."""
    config = app.config
    refresh = config["SESSION_REFRESH_EACH_REQUEST"]
    if not isinstance(refresh, bool):
        _refuse("SESSION_REFRESH_EACH_REQUEST", refresh, "it takes True or False")
    for flag in ("SECURE", "HTTPONLY", "PARTITIONED"):
        key = f"SESSION_COOKIE_{flag}"
        if not isinstance(value := config.get(key) or False, bool):
            _refuse(key, value, "it takes True or False")
    samesite = config["SESSION_COOKIE_SAMESITE"]
    if samesite is not None and str(samesite).title() not in ("Strict", "Lax", "None"):
        _refuse("SESSION_COOKIE_SAMESITE", samesite, "it takes 'Strict', 'Lax', 'None' or None")
    secure = config["SESSION_COOKIE_SECURE"]
    if str(samesite).title() == "None" and samesite is not None and not secure:
        _refuse("SESSION_COOKIE_SAMESITE", samesite, "it needs SESSION_COOKIE_SECURE = True")
    if config.get("SESSION_COOKIE_PARTITIONED"):
        if not secure:
            _refuse("SESSION_COOKIE_PARTITIONED", True, "it needs SESSION_COOKIE_SECURE = True")
        if "partitioned" not in signature(Response.set_cookie).parameters:
            _refuse("SESSION_COOKIE_PARTITIONED", True, "it needs Werkzeug 3.1 or newer")
    path = config["SESSION_COOKIE_PATH"]
    if path and not path.startswith("/"):
        _refuse("SESSION_COOKIE_PATH", path, "a path begins with '/'")
    _check_cookie_name(app)


def _check_cookie_name(app: Quart) -> None:
    """Some names make promises, which browsers hold a cookie to (RFC 6265bis, section 4.1.3)."""
    config = app.config
    key, name = "SESSION_COOKIE_NAME", config["SESSION_COOKIE_NAME"]
    if not isinstance(name, str) or not _COOKIE_NAME.fullmatch(name):
        _refuse(key, name, "a name takes letters, digits and !#$%&'*+-.^_`|~")
    promise = name.lower()  # in any spelling
    secure, http_only = config["SESSION_COOKIE_SECURE"], config["SESSION_COOKIE_HTTPONLY"]
    if promise.startswith(("__secure-", "__host-", "__http-")) and not secure:
        _refuse(key, name, "this name needs SESSION_COOKIE_SECURE = True")
    if promise.startswith(("__http-", "__host-http-")) and not http_only:
        _refuse(key, name, "this name needs SESSION_COOKIE_HTTPONLY = True")
    path = config["SESSION_COOKIE_PATH"] or config["APPLICATION_ROOT"]
    if promise.startswith("__host-") and (config["SESSION_COOKIE_DOMAIN"] or path != "/"):
        _refuse(key, name, "this name needs no domain and the path '/'")
