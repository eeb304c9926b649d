"""Session id to cookie and back: verify, parse, Set-Cookie, and what caches are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from quart_session._hotpath import is_sid, sign_sid, unsign_sid
from quart_session.errors import ConfigError

if TYPE_CHECKING:
    from quart import Quart
    from quart.sessions import SessionInterface
    from quart.wrappers import Response
    from quart.wrappers.base import BaseRequestWebsocket
    from werkzeug.wrappers import Response as WerkzeugResponse

MAX_IDS = 4
"""A browser sends several cookies of one name when their paths or domains differ. So many are
tried; more would let a client turn one request into many look-ups."""

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")

_THIS_MACHINE = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.IGNORECASE)


def is_uuid(sid: str) -> bool:
    """Whether *sid* has the form that version 3 gave its session ids."""
    return _UUID4.match(sid) is not None


def is_session_id(value: str) -> bool:
    """Whether *value* has the form of a session id, of this version or of version 3."""
    return is_sid(value) or is_uuid(value)


def read_ids(
    app: Quart, request: BaseRequestWebsocket, name: str, signed: bool
) -> Iterator[tuple[str, bool]]:
    """The distinct well-formed session ids of the request's cookies, in the browser's order.

    With each comes whether an older key signed it, so that the browser needs another cookie.
    """
    seen: set[str] = set()
    for value in _values(request, name):
        sid, outdated = _verify(value, _keys(app)) if signed else (value, False)
        if sid is None or sid in seen or not is_session_id(sid):
            continue
        seen.add(sid)
        yield sid, outdated
        if len(seen) == MAX_IDS:
            return


def _verify(value: str, keys: list[str | bytes]) -> tuple[str | None, bool]:
    if (sid := unsign_sid(value, keys[:1])) is not None:
        return sid, False
    return unsign_sid(value, keys[1:]), True


def _values(request: BaseRequestWebsocket, name: str) -> Iterator[str]:
    """The values of the cookies of that name, split at every semicolon as browsers join them.

    ``request.cookies`` knows semicolons in quotes as well, which no browser sends (RFC 6265,
    section 4.1.1), and takes 18 seconds for 64 KB of ``a=`` and spaces.
    """
    for line in request.headers.getlist("Cookie"):
        for pair in line.split(";"):
            key, _, value = pair.partition("=")
            if key.strip(" \t") == name:
                value = value.strip(" \t")
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield value[1:-1] if quoted else value


def set_cookie(
    app: Quart,
    interface: SessionInterface,
    response: Response | WerkzeugResponse,
    sid: str,
    expires: datetime | None,
    signed: bool,
) -> None:
    """Send the session id, until *expires* or until the browser closes."""
    value = sign_sid(sid, _keys(app)[0]) if signed else sid
    response.set_cookie(
        interface.get_cookie_name(app), value, expires=expires, **_attributes(app, interface)
    )


def remove_cookie(
    app: Quart, interface: SessionInterface, response: Response | WerkzeugResponse
) -> None:
    """Remove the cookie with the attributes it was set with; a ``__Host-`` name insists on them."""
    response.delete_cookie(interface.get_cookie_name(app), **_attributes(app, interface))


def is_exposed(app: Quart, interface: SessionInterface, request: BaseRequestWebsocket) -> bool:
    """Whether the session id, in the cookie that *request* is answered with, may be overheard.

    Not in development: with debug or testing on, or from the same machine and no proxy between.
    """
    if interface.get_cookie_secure(app) or app.debug or app.testing:
        return False
    headers = request.headers
    if any(name in headers for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded")):
        return True
    return _THIS_MACHINE.fullmatch(headers.get("Host", "")) is None


def keep_from_caches(response: Response | WerkzeugResponse) -> None:
    """Tell caches that this response is for one browser (RFC 9111, sections 4.1 and 5.2.2.7).

    What it says to some caches alone would outweigh that.
    """
    headers = response.headers
    present = {name.lower() for name, _ in headers}
    for name in filter(_is_for_some_caches, present):
        del headers[name]
    # Most responses have neither header, and to let Werkzeug parse them takes its time.
    if "vary" in present:
        response.vary.add("Cookie")
    else:
        headers["Vary"] = "Cookie"
    if "cache-control" not in present:
        headers["Cache-Control"] = "private"
        return
    control = response.cache_control
    if control.no_store:
        return
    control.public = False
    control.s_maxage = None
    control.private = True


def is_public(response: Response | WerkzeugResponse) -> bool:
    """Whether the application has declared this response to be for everybody."""
    control = response.cache_control
    return (
        bool(control.public)
        or control.s_maxage is not None
        or any(_is_for_some_caches(name.lower()) for name, _ in response.headers)
    )


def _is_for_some_caches(name: str) -> bool:
    """A header for content delivery networks (RFC 9213, and what came before) or nginx."""
    return name.endswith("cdn-cache-control") or name in ("surrogate-control", "x-accel-expires")


def _keys(app: Quart) -> list[str | bytes]:
    """The newest key first; it signs, the others only verify."""
    newest = app.secret_key
    if not newest:
        raise ConfigError("SESSION_USE_SIGNER = True needs a secret key: set app.secret_key")
    return [newest, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]


def _attributes(app: Quart, interface: SessionInterface) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "domain": interface.get_cookie_domain(app),
        "path": interface.get_cookie_path(app),
        "secure": interface.get_cookie_secure(app),
        "httponly": interface.get_cookie_httponly(app),
        "samesite": interface.get_cookie_samesite(app),
    }
    if app.config.get("SESSION_COOKIE_PARTITIONED"):
        attributes["partitioned"] = True
    return attributes
