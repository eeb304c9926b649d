"""Which sessions a user has: one record of the store for each user, beside the sessions themselves.

The record is a hint: it names every session that the user has, and may name some that are gone.
Who reads it looks at the sessions. So a session has to be in it before it is stored, and may leave
it only after it ended.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from quart_session import signals
from quart_session.attempts import Attempts
from quart_session.config import SessionConfig
from quart_session.errors import CodecError
from quart_session.records import Records
from quart_session.remains import is_alive
from quart_session.serializer import TaggedJSONSerializer
from quart_session.session import METADATA, check_user_id
from quart_session.stores.base import ABSENT, Conflict, Record, Version

if TYPE_CHECKING:
    from quart import Quart

SETTLED = 60.0
"""Seconds after which whoever noted a session must have stored it; and so much longer than a
session its note lives."""

SAMPLE = 4
"""So many entries are looked at with each new one, so that the dead never long outnumber the
living."""

Entry = dict[str, Any]
"""What the index notes about a session: ``since``, when it was noted, ``address`` and ``agent``."""


class NotedSession(NamedTuple):
    """A session that the index of its user led to."""

    key: str
    entry: Entry
    record: Record
    document: dict[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHandle:
    """One session of a user, for a page that lists them. It does not hold the session's id.

    .. versionadded:: 4.0
    """

    user_id: str
    fingerprint: str
    """The session's name in signals and logs; a form may send it back to say which one is meant.
    It is the same in every process if the application has a secret key."""
    current: bool
    """Whether it is the session of the running request."""
    created_at: datetime | None
    last_seen: datetime | None
    """When it was used last, to a tenth of the lifetime; ``None`` if the backend cannot tell."""
    expires_at: datetime | None
    address: str | None
    """The client's address when the session was bound to the user or got its present id."""
    user_agent: str
    key: str = field(repr=False)
    """Where the store has it."""


def claimed_by(document: dict[Any, Any], user_key: str | None) -> Any:
    """What stands for the user in *document*, by ``bind()`` or under ``SESSION_USER_KEY``."""
    metadata = document.get(METADATA)
    user_id = metadata.get("user") if isinstance(metadata, dict) else None
    return document.get(user_key) if user_id is None and user_key is not None else user_id


def user_of(document: dict[Any, Any], user_key: str | None) -> str | None:
    """The user whose session *document* is; ``None`` if there is none, or no user id."""
    try:
        return check_user_id(claimed_by(document, user_key))
    except TypeError:
        return None


def handle_of(
    session: NotedSession, user_id: str, fingerprint: str, current: bool, lifetime: float
) -> SessionHandle:
    """What the application gets to see of a session.

    :param lifetime: seconds that a session in use has from then on.
    """
    metadata = session.document.get(METADATA)
    created = metadata.get("created") if isinstance(metadata, dict) else None
    left = session.record.expires_in
    ends = None if left is None else time.time() + left
    return SessionHandle(
        user_id=user_id,
        fingerprint=fingerprint,
        current=current,
        created_at=_moment(created),
        # Where the absolute deadline cut the life short, that is the earliest it can have been.
        last_seen=_moment(None if ends is None else max(ends - lifetime, created or 0)),
        expires_at=_moment(ends),
        address=session.entry.get("address") or None,
        user_agent=session.entry.get("agent", ""),
        key=session.key,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class UserIndex:
    """The sessions of each user of one application: list them, limit them, revoke them."""

    def __init__(self, records: Records, config: SessionConfig) -> None:
        self._records = records
        self._config = config
        self._serializer = TaggedJSONSerializer()  # whichever one the sessions are written with

    # -- the record of one user

    def _key(self, user_id: str) -> str:
        name = user_id.encode(errors="surrogatepass")  # whatever JSON from outside may say
        return f"{self._config.key_prefix}user:{sha256(name).hexdigest()}"

    def _read(self, record: Record | None) -> dict[str, Entry]:
        return {} if record is None else self._serializer.loads(record.data)

    async def _entries(self, user_id: str) -> dict[str, Entry]:
        """By the keys of the sessions; those noted last come last."""
        return self._read(await self._records.find(self._key(user_id)))

    async def add(self, user_id: str, key: str, entry: Entry, life: float) -> None:
        """Note a session before it is stored under *key* for *life* seconds."""
        dead = await self._dead(user_id)

        def change(entries: dict[str, Entry]) -> None:
            for gone, seen in dead.items():
                if entries.get(gone) == seen:  # nobody has noted it again
                    del entries[gone]
            entries.pop(key, None)  # who is bound again is the youngest, not the oldest
            entries[key] = {"since": time.time(), **entry}

        await self._change(user_id, change, life + SETTLED)

    async def remove(self, user_id: str, keys: Collection[str]) -> None:
        """Forget sessions that have ended."""

        def change(entries: dict[str, Entry]) -> None:
            for key in keys:
                entries.pop(key, None)

        await self._change(user_id, change)

    async def keep(self, user_id: str, key: str, entry: Entry, life: float) -> None:
        """See to it that the index outlives a session whose life was extended to *life* seconds."""
        place = self._key(user_id)
        record = await self._records.find(place)
        if record is None or key not in self._read(record):
            await self.add(user_id, key, entry, life)
        elif record.expires_in is None or record.expires_in < life:
            await self._records.call(self._records.store.touch(place, life + SETTLED))

    async def _dead(self, user_id: str) -> dict[str, Entry]:
        """Some entries of sessions that are gone, or the user's no more."""
        entries = await self._entries(user_id)
        sample = random.sample(list(entries.items()), min(SAMPLE, len(entries)))
        settled = [(key, entry) for key, entry in sample if entry["since"] < time.time() - SETTLED]
        return {
            key: entry for key, entry in settled if await self._find(user_id, key, entry) is None
        }

    async def _change(
        self,
        user_id: str,
        change: Callable[[dict[str, Entry]], None],
        life: float = 0.0,
    ) -> None:
        """Make *change*, whatever others change meanwhile; the record lives *life* at least."""
        records, place = self._records, self._key(user_id)
        attempts = Attempts(self._config.timeout)
        record = await records.find(place)
        while True:
            entries = self._read(record)
            before = dict(entries)
            change(entries)
            left = None if record is None else record.expires_in
            if not life and (entries == before or (entries and left is None)):
                return  # an entry may stay; how long the others need the record, nobody can tell
            result = await records.call(self._replace(place, record, entries, life))
            if not isinstance(result, Conflict):
                return
            record = result.record
            await attempts.pause()

    async def _replace(
        self, place: str, record: Record | None, entries: dict[str, Entry], life: float
    ) -> Version | Conflict | None:
        store = self._records.store
        version = ABSENT if record is None else record.version
        if not entries:
            return await store.delete(place, version)
        left = record.expires_in if record is not None else None
        ttl = max(life, left or 0, 1)
        return await store.set(place, self._serializer.dumps(entries), ttl, version)

    # -- the sessions that it names

    async def alive(self, user_id: str) -> list[NotedSession]:
        """The sessions that the user really has; those noted first are looked at first."""
        entries = await self._entries(user_id)
        found = [await self._find(user_id, key, entry) for key, entry in entries.items()]
        return [session for session in found if session is not None]

    async def _find(self, user_id: str, key: str, entry: Entry) -> NotedSession | None:
        record = await self._records.find(key)
        if not is_alive(record):
            return None
        try:
            document = self._records.decode(record.data)
        except CodecError:  # no session any more, to whoever opens it
            return None
        if user_of(document, self._config.user_key) != user_id:
            return None
        return NotedSession(key, entry, record, document)

    async def limit(self, app: Quart, user_id: str) -> None:
        """Revoke the oldest sessions of a user who has more than ``SESSION_MAX_PER_USER``."""
        most = self._config.max_per_user
        if most is not None and len(await self._entries(user_id)) > most:
            oldest = (await self.alive(user_id))[:-most]
            await self.revoke(app, user_id, [session.key for session in oldest])

    async def revoke(self, app: Quart, user_id: str, keys: Collection[str]) -> int:
        """End the sessions under *keys*; how many there were.

        Nothing that still runs can bring them back, since every write expects what it has read.
        """
        ended = [key for key in keys if await self._records.remove(key)]
        await self.remove(user_id, ended)
        for key in ended:
            await self._records.announce_key(app, signals.session_revoked, key, user_id=user_id)
        return len(ended)

    async def revoke_all(self, app: Quart, user_id: str, spare: Collection[str]) -> int:
        """End all sessions of the user, but for those under the keys in *spare*; how many."""
        revoked = 0
        while True:
            before = await self._entries(user_id)
            keys = [one.key for one in await self.alive(user_id) if one.key not in spare]
            revoked += await self.revoke(app, user_id, keys)
            # One of them may have got a new id meanwhile. That is noted last, before the old one
            # ends; so whoever finds the old one gone, in this order, finds the new one or its note.
            if not keys and not (await self._entries(user_id)).keys() - before.keys():
                return revoked
