"""The dict that the application sees as ``quart.session``."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, Self, TypeVar
from uuid import UUID

import anyio
from quart.sessions import SessionMixin

from quart_session._hotpath import new_sid
from quart_session.address import LOCAL, NOBODY
from quart_session.errors import SessionUnavailable

if TYPE_CHECKING:
    from quart import Quart

logger = logging.getLogger("quart_session")

T = TypeVar("T")

RESERVED = ("_permanent", "_addr")
"""Keys of the stored document that belong to the extension, not to the application."""

METADATA = "_qs"
"""The one key under which later additions of the extension live in the document."""

NO_PIN = (None, False, "", LOCAL)
"""Values of ``_addr`` that bind a session to no address."""

_IMMUTABLE = frozenset(
    {str, int, bool, float, bytes, type(None), UUID, date, datetime, time, timedelta, Decimal}
)


class Phase(Enum):
    """How far a session is on its way through a request; the value completes a log line."""

    OPEN = "before it was saved"
    SAVED = "after it was saved"
    UNSAVED = "where it is not saved any more"
    """Never saved from here on: its backend failed, or it was destroyed meanwhile."""
    STATIC = "in a request for a static file"
    """Never loaded and never saved."""


@dataclass(slots=True, repr=False)
class Origin:
    """The record that a session was loaded from or last saved as."""

    sid: str
    key: str
    data: bytes
    version: bytes
    expires_at: float | None
    """Seconds since the epoch; ``None`` where the backend cannot tell."""
    noted: tuple[str, str] | None = None
    """The user whose index has the session, and the key under which it has it."""


class Home(Protocol):
    """The session interface, as far as a session knows it."""

    async def save_now(self, app: Quart, session: ServerSideSession) -> None: ...

    async def load_again(self, app: Quart, session: ServerSideSession) -> None: ...

    def check_user_index(self) -> None: ...


class ServerSideSession(dict[Any, Any], SessionMixin):
    """A dict whose changes, nested ones too, are saved when the request ends.

    Iteration, ``len`` and ``==`` show the application's data only. ``_permanent`` and ``_addr``, as
    version 3 stored them, are served by ``[]``, ``get``, ``in``, ``update``, ``pop`` and ``del``;
    they survive :meth:`clear` and do not keep an otherwise empty session alive.

    Looking at the session in any way marks it as accessed and, if its backend failed, raises
    :exc:`~quart_session.errors.SessionUnavailable`.

    :param initial: the stored document: the data with the reserved keys.
    :param sid: the session id; made when it is first needed if not given.
    :param permanent: whether the cookie outlives the browser.
    :param addr: the client's address.
    """

    def __init__(
        self,
        initial: dict[Any, Any] | None = None,
        sid: str | None = None,
        permanent: bool | None = None,
        addr: str | None = None,
    ) -> None:
        super().__init__()
        self._sid = sid
        self._origin: Origin | None = None
        self._accessed = False
        self._forced = False
        self._cleared = False
        self._suppressed = False
        """Whether ``modified = False`` was assigned and nothing was set since."""
        self._my_keys: set[Any] = set()
        """Keys that this request set or deleted itself; it means them even if nothing differs."""
        self._changes = 0
        """How often a key was set or deleted."""
        self._failure: BaseException | None = None
        self._anonymous = False
        """Whether a failure of the backend goes unnoticed, as ``SESSION_ON_OUTAGE`` may want it."""
        self._doomed: Origin | None = None
        """The record that :meth:`destroy` ends at the next save."""
        self._superseded = False
        """Whether the browser is known to have a newer id than the one that it sent."""
        self._outdated = False
        """Whether the browser's cookie has an older id, or was signed with an older key."""
        self._in_websocket = False
        self._home: tuple[Home, Quart] | None = None
        """Where :meth:`save` and :meth:`reload` turn to."""
        self._client = NOBODY
        self._user_agent: Callable[[], str] = str
        """Together they tell who uses the session."""
        self._phase = Phase.OPEN
        self._lock: anyio.Lock | None = None
        """Held by :meth:`save` and :meth:`reload`; made by the first of them."""
        self._loss_logged = False
        self._cookie: Literal["set", "remove"] | None = None
        """What the response tells the browser, decided by the save."""
        self._load(initial or {})
        if permanent:
            self._reserved["_permanent"] = True
        if addr:
            self._reserved["_addr"] = addr

    # -- what the interface does with it

    def _load(self, document: dict[Any, Any]) -> None:
        """Take over a stored document."""
        self._reserved = {key: document[key] for key in (*RESERVED, METADATA) if key in document}
        dict.clear(self)
        dict.update(self, document)
        for key in self._reserved:
            dict.pop(self, key)

    def _document(self) -> dict[Any, Any]:
        """What is to be stored, in the order of version 3."""
        return {**self._reserved, **dict(dict.items(self))}

    def _is_empty(self) -> bool:
        return dict.__len__(self) == 0 and "user" not in self._metadata()

    def _is_moving(self) -> bool:
        """Whether the session has got a new id that is not stored yet."""
        return self._origin is not None and self._sid != self._origin.sid

    def _metadata(self) -> dict[str, Any]:
        """What the extension itself has noted about the session."""
        metadata = self._reserved.get(METADATA)
        return metadata if isinstance(metadata, dict) else {}

    def _describe(self, **metadata: Any) -> None:
        """Note something about the session; ``None`` takes it back."""
        known = {**self._metadata(), **metadata}
        if known := {name: value for name, value in known.items() if value is not None}:
            self._reserved[METADATA] = known
        else:
            self._reserved.pop(METADATA, None)

    def _may_have_changed(self) -> bool:
        """False only where nobody can have changed anything, told without encoding."""
        if self._suppressed:
            return False
        if self._forced or self._cleared or self._my_keys:
            return True
        return self._accessed and any(type(value) not in _IMMUTABLE for value in dict.values(self))

    def _saved(self, origin: Origin | None, everything: bool = True) -> None:
        """Start over from what is stored now; ``None``: nothing is.

        :param everything: false if the session was changed again while it was on its way.
        """
        self._origin = origin
        self._cleared = self._suppressed = False
        if everything:
            self._forced = False
            self._my_keys.clear()

    def _time(self, name: str) -> float | None:
        """A time that was noted, in seconds since the epoch."""
        noted = self._metadata().get(name)
        return noted if isinstance(noted, int | float) else None

    def _begin(self) -> None:
        """Note the time of creation, unless it is known."""
        if self._time("created") is None:
            self._describe(created=int(clock.time()))

    def _has_no_beginning(self, absolute_lifetime: float | None) -> bool:
        """Whether a deadline is wanted, and nothing tells it yet: version 3 stored the session."""
        unknown = absolute_lifetime is not None and self._time("created") is None
        return unknown and not self._suppressed

    def _user_note(self) -> dict[str, str]:
        """What the index of its user notes about the session."""
        return {"address": self._client.name or "", "agent": self._user_agent()}

    def _pin(self) -> None:
        """Bind the session to where this request came from, as its id is new."""
        if self._client.name and "_addr" not in self._my_keys:
            self._reserved["_addr"] = self._client.name

    def _pin_if_free(self) -> None:
        if self._reserved.get("_addr") in NO_PIN:
            self._pin()

    def _seconds_to_deadline(self, absolute_lifetime: float | None) -> float | None:
        created = self._time("created")
        if absolute_lifetime is None or created is None:
            return None
        return created + absolute_lifetime - clock.time()

    def _look(self) -> None:
        self._accessed = True
        if self._failure is not None and not self._anonymous:
            raise SessionUnavailable() from self._failure

    def _note(self, key: Any) -> None:
        self._look()
        if key == METADATA:
            raise ValueError(f"{METADATA!r} is reserved for the session itself; use another key")
        self._my_keys.add(key)
        self._changes += 1
        self._suppressed = False
        if key not in RESERVED:
            self._warn_if_late()

    def _warn_if_late(self) -> None:
        if self._phase is not Phase.OPEN and not self._loss_logged:
            self._loss_logged = True
            hint = " without `await session.save()`" if self._phase is Phase.SAVED else ""
            logger.warning(
                "The session was changed %s; the change is lost%s", self._phase.value, hint
            )

    # -- what the framework and version 3 know of it

    @property
    def sid(self) -> str:
        """The session id. It is a secret: whoever knows it is logged in."""
        self._look()
        return self._ensure_sid()

    @sid.setter
    def sid(self, value: object) -> NoReturn:
        raise AttributeError("An id cannot be chosen; session.regenerate() gives a new one")

    def _ensure_sid(self) -> str:
        if self._sid is None:
            self._sid = new_sid()
        return self._sid

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the session has not been stored yet."""
        self._look()
        return self._origin is None

    @property
    def available(self) -> bool:
        """Whether the backend answered. Never raises.

        .. versionadded:: 4.0
        """
        return self._failure is None

    @property
    def accessed(self) -> bool:
        """Whether the application looked at the session.

        Quart 0.23 assigns ``True`` at every access of its own, so an assignment says nothing and is
        ignored.
        """
        return self._accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        pass

    @property
    def modified(self) -> bool:
        """Whether a key was set or deleted.

        Assign ``True`` to save in any case, ``False`` to save nothing unless something is set
        afterwards. A change inside a value is found without this when the session is saved.
        """
        return not self._suppressed and (self._forced or bool(self._my_keys))

    @modified.setter
    def modified(self, value: bool) -> None:
        self._forced = bool(value)
        self._suppressed = not value
        if value:
            self._warn_if_late()

    def dirty(self) -> None:
        """Save the session in any case; with ``SESSION_EXPLICIT``, store it if it is new."""
        self._look()
        self._forced = True
        self._suppressed = False
        self._warn_if_late()

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlives the browser. The record expires either way."""
        if self._failure is None:
            self._look()
        return bool(self._reserved.get("_permanent", False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self._failure is None and bool(value) != self._reserved.get("_permanent", False):
            self["_permanent"] = value

    @property
    def addr(self) -> str | Literal[False]:
        """The client's address when the session got its id, or ``False``."""
        self._look()
        addr: str | Literal[False] = self._reserved.get("_addr", False)
        return addr

    @addr.setter
    def addr(self, value: str) -> None:
        self["_addr"] = value

    @property
    def created_at(self) -> datetime | None:
        """When the session was first stored; ``None`` if it is new or nobody noted it.

        Version 3 noted nothing. With ``SESSION_ABSOLUTE_LIFETIME``, a session of it begins when it
        is first saved here or its life extended.

        .. versionadded:: 4.0
        """
        self._look()
        created = self._time("created")
        return None if created is None else datetime.fromtimestamp(created, UTC)

    @property
    def expires_at(self) -> datetime | None:
        """When the session ends if nobody uses it; ``None`` if it is new or nobody can tell.

        .. versionadded:: 4.0
        """
        self._look()
        if self._origin is None or self._origin.expires_at is None:
            return None
        return datetime.fromtimestamp(self._origin.expires_at, UTC)

    def regenerate(self) -> None:
        """Give the session a new id and keep its data. Call it at login.

        Who knew the old id, because he had planted it or seen it, knows nothing then. The new id
        is stored when the session is saved, and only then the old one ends.

        :raises RuntimeError: no cookie can be set any more, in a websocket for example, so the
            browser would lose its session; or another task saves or reloads it just now.

        .. versionadded:: 4.0
        """
        self._look()
        if self._in_websocket or self._phase is Phase.SAVED:
            raise RuntimeError(
                "The session cannot get a new id here, since no cookie can tell it to the browser; "
                "regenerate it in a request, before its response"
            )
        if self._lock is not None and self._lock.locked():
            raise RuntimeError(
                "The session cannot get a new id while another task saves or reloads it; "
                "wait for that first"
            )
        self._sid = new_sid()
        self._pin()
        self._forced = True
        self._suppressed = self._superseded = False

    @property
    def user_id(self) -> str | None:
        """The user whom :meth:`bind` has named, as text.

        .. versionadded:: 4.0
        """
        self._look()
        user_id: str | None = self._metadata().get("user")
        return user_id

    def bind(self, user_id: str | int | UUID | None) -> None:
        """Say whose session this is; call it at login, beside :meth:`regenerate`.

        ``app.session_interface.sessions_of(user_id)`` lists the session then, and ``revoke_all``
        ends it. ``None`` takes it back. A session that is bound is stored even if it is empty.

        :raises TypeError: *user_id* is no str, int or UUID.
        :raises ConfigError: the backend may drop records early, so it cannot tell which there are.

        .. versionadded:: 4.0
        """
        self._look()
        if user_id is not None:
            check_user_id(user_id)
            if self._home is not None:
                self._home[0].check_user_index()
        self._my_keys.add(METADATA)
        self._changes += 1
        self._forced = True
        self._suppressed = False
        self._describe(user=None if user_id is None else str(user_id))
        self._warn_if_late()

    def destroy(self) -> None:
        """End the session: its record is removed and, unless it is filled again, its cookie.

        What slower requests write to it is lost. What is put into it from here on, a flashed
        message for example, begins a new session with a new id.

        .. versionadded:: 4.0
        """
        self._look()
        self._doomed = self._doomed or self._origin
        self._origin = None
        self._sid = None
        self._forced = self._cleared = False
        self._my_keys.clear()
        self._reserved.pop(METADATA, None)
        self._pin()
        dict.clear(self)
        self._warn_if_late()

    async def save(self) -> None:
        """Save now: in a websocket, in the body of a stream, in a background task.

        :raises CodecError: the session holds something that cannot be stored.
        :raises SessionTooLarge: it takes more than ``SESSION_MAX_BYTES``.
        :raises SessionConflict: other requests kept changing it.
        :raises StoreError: the backend failed.

        .. versionadded:: 4.0
        """
        self._look()
        if self._home is not None:
            interface, app = self._home
            async with self._alone():
                await interface.save_now(app, self)

    async def reload(self) -> None:
        """Take over what others have stored; changes that are not saved yet are forgotten. What
        another task sets or deletes meanwhile stays.

        A session that is gone is empty afterwards and stores nothing any more.

        :raises StoreError: the backend failed.

        .. versionadded:: 4.0
        """
        self._look()
        if self._home is not None:
            interface, app = self._home
            async with self._alone():
                await interface.load_again(app, self)

    def _alone(self) -> anyio.Lock:
        """While one task saves, the session must not be replaced by what another one reloads."""
        if self._lock is None:
            self._lock = anyio.Lock()
        return self._lock

    # -- looking at it

    def __getitem__(self, key: Any) -> Any:
        self._look()
        if key in RESERVED:
            return self._reserved[key]
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None, /) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 -- this is get

    def __contains__(self, key: object) -> bool:
        self._look()
        if key in RESERVED:
            return key in self._reserved
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        self._look()
        return super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        self._look()
        return super().__reversed__()

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._look()
        if isinstance(other, ServerSideSession):
            other._look()
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> KeysView[Any]:  # type: ignore[override]
        self._look()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._look()
        return super().values()

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._look()
        return super().items()

    def copy(self) -> dict[Any, Any]:
        """The application's data as a plain dict."""
        self._look()
        return super().copy()

    def __or__(self, other: Any) -> Any:
        self._look()
        return super().__or__(other)

    def __ror__(self, other: Any) -> Any:
        self._look()
        return super().__ror__(other)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copied or pickled, a session is its data: neither its id nor its place in the store."""
        return dict, (self.copy(),)

    def __repr__(self) -> str:
        """Neither the id nor the data, since reprs end up in logs."""
        return f"<{type(self).__name__} of {dict.__len__(self)} keys>"

    # -- changing it

    def __setitem__(self, key: Any, value: Any) -> None:
        self._note(key)
        if key == "_permanent":
            self._reserved[key] = bool(value)
        elif key in RESERVED:
            self._reserved[key] = value
        else:
            super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._look()
        if key in RESERVED:
            del self._reserved[key]
        else:
            super().__delitem__(key)
        self._note(key)

    def pop(self, key: Any, /, *default: T) -> Any:
        if len(default) > 1:
            raise TypeError(f"pop takes a key and a default, got {len(default)} defaults")
        if default and key not in self:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[Any, Any]:
        self._look()
        key, value = super().popitem()
        self._note(key)
        return key, value

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def clear(self) -> None:
        """Forget the application's data; saved like this, the session is destroyed.

        ``permanent`` and ``addr`` stay for what is put into it afterwards.
        """
        self._look()
        for key in dict.keys(self):
            self._note(key)
        self._my_keys.add(METADATA)
        self._describe(user=None)
        self._cleared = True
        self._suppressed = False
        super().clear()


def check_user_id(user_id: object) -> str:
    """Return *user_id* as the text that stands for it.

    :raises TypeError: it is no str, int or UUID.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, str | int | UUID):
        raise TypeError(f"a user id is a str, an int or a UUID, not {type(user_id).__name__}")
    return str(user_id)
