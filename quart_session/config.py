"""Every ``SESSION_*`` key: its default, its check and its old name."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from quart_session.errors import ConfigError

if TYPE_CHECKING:
    from quart import Quart

    from quart_session.stores.base import Store

logger = logging.getLogger("quart_session")

OLD_NAMES = {
    "SESSION_HIJACK_PROTECTION": "SESSION_PROTECTION",
    "SESSION_HIJACK_REVERSE_PROXY": "SESSION_REVERSE_PROXY",
}


def _setting(default: Any, allowed: str, accepts: Callable[[Any], bool]) -> Any:
    return field(default=default, metadata={"allowed": allowed, "accepts": accepts})


def _flag(default: bool) -> Any:
    return _setting(default, "True or False", lambda value: isinstance(value, bool))


def _is_seconds(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


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
        None, "a URL such as 'redis://localhost:6379/0'", lambda value: isinstance(value, str)
    )
    redis: Any = _setting(
        None,
        "an instance of redis.asyncio.Redis; a URL goes into SESSION_URI",
        lambda value: callable(getattr(value, "execute_command", None)),
    )
    sqlite_path: str | os.PathLike[str] | None = _setting(
        None, "the path of a file", lambda value: isinstance(value, str | os.PathLike)
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
    max_bytes: int = _setting(
        1_000_000,
        "a positive whole number",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    )
    absolute_lifetime: float | None = _setting(
        None,
        "a positive number of seconds or a timedelta",
        lambda value: _is_seconds(value.total_seconds() if isinstance(value, timedelta) else value),
    )
    protection: bool = _setting(
        False, "False; this version does not pin sessions yet", lambda value: value is False
    )
    reverse_proxy: bool = _setting(
        False, "False; this version does not read proxy headers yet", lambda value: value is False
    )

    instance_path: str = ""
    """The application's instance folder, where SQLite keeps its file by default."""

    @classmethod
    def from_app(cls, app: Quart) -> SessionConfig:
        """Read and check ``app.config``.

        :raises ConfigError: a value is wrong; names the key, the value and what is allowed.
        """
        config = cls.from_mapping(app.config, instance_path=str(app.instance_path))
        if config.use_signer and not app.secret_key:
            raise ConfigError(
                "SESSION_USE_SIGNER = True needs a secret key: set app.secret_key first"
            )
        if app.permanent_session_lifetime.total_seconds() <= 0:
            raise ConfigError(
                f"PERMANENT_SESSION_LIFETIME = {app.permanent_session_lifetime!r} is not allowed: "
                "sessions need a lifetime of more than 0 seconds"
            )
        return config

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, instance_path: str = "") -> SessionConfig:
        """Check the ``SESSION_*`` keys of *mapping*; other keys are left alone."""
        given = {key: value for key, value in mapping.items() if key.startswith("SESSION_")}
        for old, new in OLD_NAMES.items():
            if old in given:
                logger.warning("%s is now called %s", old, new)
                given.setdefault(new, given.pop(old))

        settings: dict[str, Any] = {}
        for setting in fields(cls):
            key = f"SESSION_{setting.name.upper()}"
            value = given.pop(key, None)
            if value is None or not setting.metadata:
                continue
            if not setting.metadata["accepts"](value):
                raise ConfigError(
                    f"{key} = {value!r} is not allowed: it takes {setting.metadata['allowed']}"
                )
            settings[setting.name] = (
                value.total_seconds() if isinstance(value, timedelta) else value
            )
        _hint_at_misspellings(given)
        return cls(**settings, instance_path=instance_path)


def _hint_at_misspellings(unknown: Mapping[str, Any]) -> None:
    """Other extensions own ``SESSION_*`` keys too, so a stranger is no error."""
    ours = [f"SESSION_{setting.name.upper()}" for setting in fields(SessionConfig)]
    for key in unknown:
        if close := get_close_matches(key, ours, n=1, cutoff=0.9):
            logger.warning("%s is not a setting; did you mean %s?", key, close[0])
