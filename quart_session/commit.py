"""How the changes of one session get into the store, beside other requests that do the same.

Every write is conditional on what was read. Where another request came first, the keys that this
one changed are put into what that one stored, and the write is tried again. A session that was
destroyed meanwhile is never brought back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from quart_session import signals
from quart_session._hotpath import new_sid
from quart_session.attempts import Attempts
from quart_session.errors import SessionConflict, SessionError
from quart_session.merge import changed_keys, merge
from quart_session.records import Found, Queue, Records
from quart_session.remains import (
    MARKER,
    VACANT,
    is_alive,
    is_left_over,
    life_of,
    renewed_as,
    renewed_id,
)
from quart_session.session import (
    METADATA,
    RESERVED,
    Origin,
    ServerSideSession,
    check_user_id,
)
from quart_session.stores.base import ABSENT, Conflict, Expect, Record, Version
from quart_session.users import UserIndex, claimed_by, user_of

if TYPE_CHECKING:
    from blinker import Signal
    from quart import Quart

    from quart_session.config import SessionConfig

logger = logging.getLogger("quart_session")


class Commit:
    """One save of one session."""

    def __init__(
        self,
        records: Records,
        users: UserIndex,
        config: SessionConfig,
        app: Quart,
        session: ServerSideSession,
    ) -> None:
        self._records = records
        self._users = users
        self._config = config
        self._app = app
        self._session = session
        self._attempts = Attempts(config.timeout)
        self._seen = 0
        self._ends: float | None = None
        """When the record ends that is written now; ``None``: after a whole lifetime."""
        self._renews = False
        """Whether the new id of the session is not the application's wish."""
        self._was_vacant = False
        """Whether another request had taken the last key out of the session."""
        self._base = b""
        """The document from which the session came that is saved, and which others have, too."""
        self._noted: tuple[str, str] | None = None
        """The user whose index has the session, and the key under which it has it."""

    async def create(self) -> None:
        """Store a session that is not stored yet."""
        session = self._session
        key = self._records.keys_of(session._ensure_sid())[0]
        data = await self._encode(key)
        version = await self._set(key, data, ABSENT)
        if isinstance(version, Conflict):
            # A save whose answer was lost and that is now repeated finds its own record.
            if version.record is None or version.record.data != data:
                raise SessionConflict("The id of a new session is taken; it was not saved")
            version = version.record.version
        self._saved(key, data, version)
        await self._keep_index(before=None)
        await self._send(signals.session_created)
        await self._send(signals.session_saved)

    async def update(self, origin: Origin, extend: bool) -> bool:
        """Store what was changed in an existing session.

        Returns False if it was destroyed meanwhile; then nothing is stored.

        :param extend: whether the session gets a whole lifetime, or keeps the end that it has.
        """
        self._ends = None if extend else origin.expires_at
        alive = await self._save(origin)
        if not alive:
            await self.drop()
        return alive

    async def begin(self, origin: Origin) -> bool:
        """Store that the session begins now, as nobody knows when it did; False if it is gone.

        Else activity would extend its life again and again, and never come to a deadline.
        """
        return await self._save(origin)

    async def renew(self, origin: Origin) -> bool:
        """Give the session a new id, and store what was changed; False if it was destroyed.

        Requests that are under way with the old id find the session for a short while.
        """
        self._renews = True
        return await self._save(origin)

    async def _save(self, origin: Origin) -> bool:
        session = self._session
        sid = session._sid
        if self._renews:
            session._sid = new_sid()
        try:
            return await self._store(origin)
        except BaseException:
            if session._origin is origin:  # nothing was stored, so another try starts from here
                session._sid = sid
            raise

    async def _store(self, origin: Origin) -> bool:
        session = self._session
        self._noted = origin.noted
        self._base = origin.data
        if session._cleared and session._is_empty():
            alive = await self.destroy(origin)
            if alive:
                self._removed()
            return alive
        has_new_id = session._ensure_sid() != origin.sid
        async with self._turn(origin) as queue:
            here = await self._settle(origin)
            if here is None:
                return False
            if queue.newest is not None and queue.newest.key == here.key:
                here = queue.newest
            if here.record.data != origin.data:
                await self._merge(here)
            if has_new_id and not (self._renews and here.sid != origin.sid):
                alive = await self._move(here)
            else:
                self._follow_id(here)
                alive = await self._write(here.key, here.record.version)
            queue.newest = self._written()
        if alive:
            await self._keep_index(origin.noted)
        return alive

    async def destroy(self, origin: Origin) -> bool:
        """Remove the record, whatever others have written to it meanwhile.

        Returns False if another request had done so before.
        """
        async with self._turn(origin):
            here = await self._settle(origin)
            while here is not None:
                ended = await self._set(here.key, MARKER, here.record.version)
                if not isinstance(ended, Conflict):
                    break
                await self._attempts.pause()
                here = await self._follow(here.sid, here.key, ended.record)
        if here is None:
            return False
        await self._end(here.sid, here.key)
        await self._forget(origin.noted)
        return here.record.data != VACANT

    async def drop(self) -> None:
        """Say that what this request changed is lost."""
        logger.warning("The session was destroyed meanwhile; what this request changed is lost")
        self._session._cookie = None
        await self._send(signals.session_write_dropped)

    async def touch(self, origin: Origin) -> bool:
        """Extend the life of a session that was not changed; False if it is gone."""
        records, ttl = self._records, self.ttl()
        if not await records.call(records.store.touch(origin.key, ttl)):
            return False
        # If the session was superseded a moment ago, the touch was given to what is left of it.
        record = await records.find(origin.key)
        if not is_alive(record):
            if record is not None:
                await self._set(origin.key, record.data, record.version)
            return False
        origin.expires_at = time.time() + ttl
        self._noted = origin.noted
        await self._keep_index(origin.noted)
        return True

    def ttl(self) -> float:
        """Seconds that the session has from now on, but not beyond the absolute deadline."""
        ttl = self._app.permanent_session_lifetime.total_seconds()
        if self._ends is not None:
            ttl = min(ttl, self._ends - time.time())
        if (left := self._session._seconds_to_deadline(self._config.absolute_lifetime)) is not None:
            ttl = min(ttl, left)
        return max(ttl, 0.001)

    def _written(self) -> Found | None:
        """What this save has written, if the session goes on."""
        stored = self._session._origin
        if stored is None or stored.expires_at is None:
            return None
        left = stored.expires_at - time.time()
        return Found(stored.sid, stored.key, Record(stored.data, stored.version, left))

    @asynccontextmanager
    async def _turn(self, origin: Origin) -> AsyncIterator[Queue]:
        async with self._records.turn(origin.key) as queue:
            self._attempts = Attempts(self._config.timeout)
            yield queue

    async def _write(self, key: str, expected: Version) -> bool:
        """Write under the key that the session has, merging as often as it takes."""
        session = self._session
        while True:
            data = VACANT if session._is_empty() else await self._encode(key)
            result = await self._set(key, data, expected)
            if not isinstance(result, Conflict):
                break
            there = await self._follow(session._ensure_sid(), key, result.record)
            if there is None:
                return False
            if there.key != key:
                self._follow_id(there)
                key = there.key
            elif there.record.data == data:
                # Our own write, whose answer was lost; or others' like it.
                result = there.record.version
                if data == VACANT:
                    session._saved(None)
                    return True
                break
            await self._merge(there)
            expected = there.record.version

        if data == VACANT:
            sid = session._ensure_sid()
            self._removed()
            await self._end(sid, key)
        else:
            self._saved(key, data, result)
            await self._send(signals.session_saved)
        return True

    async def _settle(self, origin: Origin) -> Found | None:
        """Where a session is, which may be where it was found; ``None`` if it ended.

        One of version 3 is first moved, as it is, to the key that it has here.
        """
        key = self._records.keys_of(origin.sid)[0]
        data, expected = origin.data, origin.version
        if key == origin.key:
            return Found(origin.sid, key, Record(data, expected, None))
        if origin.noted is not None:
            await self._note(origin.noted[0], key)
        while True:
            written = await self._set(key, data, ABSENT)
            if isinstance(written, Conflict):
                return await self._follow(origin.sid, key, written.record)
            ended = await self._set(origin.key, MARKER, expected)
            if not isinstance(ended, Conflict):
                return Found(origin.sid, key, Record(data, written, None))
            taken = await self._take_back(key, written)
            if taken is not None:  # others have been there, and say what became of it
                return await self._follow(origin.sid, key, taken.record)
            if not is_alive(ended.record):
                return None
            data, expected = ended.record.data, ended.record.version
            await self._attempts.pause()

    async def _move(self, old: Found) -> bool:
        """Write under the new id, then end the old one: at no time is there none."""
        session, records = self._session, self._records
        key = records.keys_of(session._ensure_sid())[0]
        written: Version | None = None
        while True:
            if not session._is_empty():
                data = await self._encode(key)
                result = await self._set(key, data, written or ABSENT)
                if isinstance(result, Conflict):
                    if not is_alive(result.record):
                        return False
                    if result.record.data != data:  # of an earlier try, which failed half way
                        session._sid = new_sid()
                        key, written = records.keys_of(session._sid)[0], None
                        continue
                    result = result.record.version
                written = result
            ended = await self._set(old.key, self._remains(old.sid), old.record.version)
            if not isinstance(ended, Conflict):
                break
            try:
                found = await self._follow(old.sid, old.key, ended.record)
                if found is None:
                    await self._take_back(key, written)
                    return False
                if found.key == key:  # our own write, its answer was lost
                    break
                await self._merge(found)
                if found.key != old.key and self._renews:  # another request has just done it
                    await self._take_back(key, written)
                    self._follow_id(found)
                    return await self._write(found.key, found.record.version)
            except Exception:
                await self._take_back(key, written)
                raise
            old = found

        if session._is_empty():  # from the start, or since others deleted what this request kept
            self._removed()
            await self._take_back(key, written)
            await self._end(old.sid, old.key)
            return True
        assert written is not None
        self._saved(key, data, written)
        await self._clean_up(old.sid, old.key)
        fingerprint = records.fingerprint(self._app, old.sid)
        await self._send(signals.session_regenerated, old_fingerprint=fingerprint)
        await self._send(signals.session_saved)
        return True

    def _remains(self, old_sid: str) -> bytes:
        """What to leave under the old id of a session that has a new one."""
        if not self._renews:
            return MARKER
        if self._session._is_empty():
            return VACANT
        return renewed_as(self._session._ensure_sid(), old_sid)

    async def _follow(self, sid: str, key: str, there: Record | None) -> Found | None:
        """Where a session is in whose place something else was found; ``None`` if it ended."""
        if there is not None and (new_sid := renewed_id(there.data, sid)) is not None:
            found = await self._records.look_up(new_sid)
        else:
            found = None if there is None else Found(sid, key, there)
        if found is None or (found.record.data != VACANT and is_left_over(found.record.data)):
            return None
        return found

    def _follow_id(self, found: Found) -> None:
        """Take over the id that the session has got from another request."""
        self._session._sid = found.sid

    async def _take_back(self, key: str, written: Version | None) -> Conflict | None:
        """Remove the record under a new key, unless others have already been there."""
        if written is None:
            return None
        return await self._records.call(self._records.store.delete(key, written))

    async def _merge(self, found: Found) -> None:
        """Put this request's changes into what another one stored, after a short pause."""
        session, theirs = self._session, found.record
        await self._send(signals.session_conflict)
        await self._attempts.pause()
        self._note_changes_in_place()
        if theirs.data == VACANT:
            if METADATA not in session._my_keys:
                session._describe(user=None)  # whoever emptied it took that back, too
            document = session._reserved
            self._base = self._records.encode({})
            self._was_vacant, self._noted = True, None
        else:
            document = self._records.decode(theirs.data)
            self._base = theirs.data
            self._keep_own_values(document)
            user_id = user_of(document, self._config.user_key)
            self._noted = None if user_id is None else (user_id, found.key)
            if self._ends is not None and theirs.expires_in is not None:
                self._ends = max(self._ends, time.time() + theirs.expires_in)
        mine = session._my_keys
        if session._cleared:  # every key of the application is this request's
            mine = mine | dict.keys(session)
            document = {key: document[key] for key in (*RESERVED, METADATA) if key in document}
        session._load(merge(session._document(), document, mine))

    def _note_changes_in_place(self) -> None:
        """Other tasks of this request may go on with the session while it is saved."""
        session = self._session
        base = self._records.decode(self._base)
        changed = changed_keys(base, session._document(), self._records.encode)
        session._my_keys.update(key for key in changed if key not in (*RESERVED, METADATA))

    def _keep_own_values(self, document: dict[Any, Any]) -> None:
        """Where *document* says the same, stay with the very value that the application may hold.

        What is changed in that after the save would be lost otherwise.
        """
        mine = self._session._document()
        differing = set(changed_keys(mine, document, self._records.encode))
        document.update((key, mine[key]) for key in mine.keys() - differing)

    async def _set(self, key: str, data: bytes, expected: Version | Expect) -> Version | Conflict:
        ttl = life_of(data) if is_left_over(data) else self.ttl()
        return await self._records.call(self._records.store.set(key, data, ttl, expected))

    async def _encode(self, key: str) -> bytes:
        """The document that is about to be stored under *key*, noted among those of its user."""
        session = self._session
        self._seen = session._changes
        if session._origin is None or self._config.absolute_lifetime is not None:
            session._begin()
        if self._config.protection:
            session._pin_if_free()
        if self._config.renew_after is not None and session._is_moving():
            session._describe(renewed=int(time.time()))
        document = session._document()
        data = self._records.encode_to_store(document)
        user_id = claimed_by(document, self._config.user_key)
        if user_id is None:
            self._noted = None
        else:
            await self._note(check_user_id(user_id), key)
        return data

    async def _note(self, user_id: str, key: str) -> None:
        """See to it that the index of the user has the session that is to lie under *key*."""
        if self._noted != (user_id, key):
            await self._users.add(user_id, key, self._session._user_note(), self.ttl())
            self._noted = (user_id, key)

    def _saved(self, key: str, data: bytes, version: Version) -> None:
        session = self._session
        extended = self._ends is None and session._reserved.get("_permanent")
        if (
            session._origin is None
            or session._is_moving()
            or extended
            or self._was_vacant  # the other response removes it
            or "_permanent" in session._my_keys
        ):
            session._cookie = "set"
        expires_at = time.time() + self.ttl()
        origin = Origin(session._ensure_sid(), key, data, version, expires_at, self._noted)
        session._saved(origin, everything=session._changes == self._seen)

    async def _keep_index(self, before: tuple[str, str] | None) -> None:
        """Bring the index of the session's user up to date, after the session itself is."""
        session = self._session
        origin = session._origin
        if origin is None:
            return
        now = origin.noted
        # Where the session is still under the old key, another request may be about to bind it to
        # the same user again, and has noted that already.
        if before is not None and before[1] != origin.key:
            await self._forget(before)
        if now is None:
            return
        try:
            if before != now:
                await self._users.limit(self._app, now[0])
            elif self._ends is None:
                await self._users.keep(*now, session._user_note(), self.ttl())
        except SessionError as error:
            logger.error("The index of a user's sessions was not kept: %s", error)

    async def _forget(self, noted: tuple[str, str] | None) -> None:
        """Take a session that is gone out of the index of its user, where it is only a hint."""
        if noted is not None:
            try:
                await self._users.remove(noted[0], [noted[1]])
            except SessionError as error:
                logger.warning("A session stays in the index of its user: %s", error)

    async def _end(self, sid: str, key: str) -> None:
        """Complete the removal of a session."""
        await self._clean_up(sid, key)
        await self._send(signals.session_destroyed, sid)

    async def _clean_up(self, sid: str, key: str) -> None:
        """Nothing of an ended session may lie elsewhere."""
        for other in self._records.keys_of(sid):
            if other != key:
                await self._records.call(self._records.store.delete(other))

    def _removed(self) -> None:
        session = self._session
        session._saved(None)
        session._sid = None  # what is put into it from here on is another session
        session._reserved.pop(METADATA, None)
        session._pin()
        session._cookie = "remove"

    async def _send(self, signal: Signal, sid: str | None = None, **more: Any) -> None:
        await self._records.announce(self._app, signal, sid or self._session._ensure_sid(), **more)


def has_changed(records: Records, session: ServerSideSession, origin: Origin) -> bool:
    """Whether there is anything to save; takes note of values that were changed in place."""
    if not session._may_have_changed():
        return False
    wanted = session._forced or session._cleared
    document = session._document()
    if records.encode(document) == origin.data:
        return wanted
    # A hint only: another writer may order or space the same document differently.
    changed = set(changed_keys(records.decode(origin.data), document, records.encode))
    session._my_keys |= changed
    return wanted or bool(changed)
