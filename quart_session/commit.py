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
from random import uniform
from typing import TYPE_CHECKING, Any

import anyio

from quart_session import signals
from quart_session.errors import SessionConflict
from quart_session.merge import changed_keys, merge
from quart_session.records import MARKER, MARKER_LIFE, VACANT, Records, is_alive
from quart_session.session import METADATA, RESERVED, Origin, ServerSideSession
from quart_session.stores.base import ABSENT, ANY, Conflict, Expect, Version

if TYPE_CHECKING:
    from blinker import Signal
    from quart import Quart

    from quart_session.config import SessionConfig

logger = logging.getLogger("quart_session")

PAUSE = 0.002
"""Seconds, about, between two tries of a save that others came before; it grows with each try."""

LONGEST_PAUSE = 0.05


class Commit:
    """One save of one session."""

    def __init__(
        self, records: Records, config: SessionConfig, app: Quart, session: ServerSideSession
    ) -> None:
        self._records = records
        self._config = config
        self._app = app
        self._session = session
        self._deadline = float("inf")
        self._tries = 0
        self._seen = 0

    async def create(self) -> None:
        """Store a session that is not stored yet."""
        session = self._session
        data = self._encode()
        key = self._records.keys_of(session._ensure_sid())[0]
        version = await self._set(key, data, ABSENT)
        if isinstance(version, Conflict):
            # A save whose answer was lost and that is now repeated finds its own record.
            if version.record is None or version.record.data != data:
                raise SessionConflict("The id of a new session is taken; it was not saved")
            version = version.record.version
        self._saved(key, data, version)
        await self._send(signals.session_created)
        await self._send(signals.session_saved)

    async def update(self, origin: Origin) -> bool:
        """Store what was changed in an existing session.

        Returns False if it was destroyed meanwhile; then nothing is stored.
        """
        session = self._session
        if session._cleared and session._is_empty():
            alive = await self.destroy(origin)
            if alive:
                self._removed()
        else:
            key = self._records.keys_of(session._ensure_sid())[0]
            async with self._turn(origin):
                if key == origin.key:
                    alive = await self._write(key, origin.version)
                else:
                    alive = await self._move(origin, key)
        if not alive:
            await self.drop()
        return alive

    async def destroy(self, origin: Origin) -> bool:
        """Remove the record, whatever others have written to it meanwhile.

        Returns False if another request had done so before.
        """
        async with self._turn(origin):
            key, version = self._place_to_end(origin)
            vacant = False
            while isinstance(result := await self._set(key, MARKER, version), Conflict):
                there = result.record
                if there is None or there.data == MARKER:
                    return False
                version, vacant = there.version, there.data == VACANT
                await self._pause()
        await self._end(origin.sid, key)
        return not vacant

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
        # If the session was superseded a moment ago, the touch was given to its marker.
        record = await records.find(origin.key)
        if not is_alive(record):
            if record is not None:
                await self._set(origin.key, record.data, record.version)
            return False
        origin.expires_at = time.time() + ttl
        return True

    def ttl(self) -> float:
        """Seconds: the lifetime, but not beyond the absolute deadline."""
        ttl = self._app.permanent_session_lifetime.total_seconds()
        if (left := self._session._seconds_to_deadline(self._config.absolute_lifetime)) is not None:
            ttl = max(min(ttl, left), 0.001)
        return ttl

    @asynccontextmanager
    async def _turn(self, origin: Origin) -> AsyncIterator[None]:
        async with self._records.turn(origin.key):
            self._deadline = time.monotonic() + self._config.timeout
            yield

    async def _write(self, key: str, expected: Version) -> bool:
        """Write under the key that the session has, merging as often as it takes."""
        session = self._session
        while True:
            data = VACANT if session._is_empty() else self._encode()
            result = await self._set(key, data, expected)
            if not isinstance(result, Conflict):
                break
            theirs = result.record
            if theirs is None or theirs.data == MARKER:
                return False
            if theirs.data == data:  # our own write, its answer was lost; or others did the same
                result = theirs.version
                if data == VACANT:
                    session._saved(None)
                    return True
                break
            await self._merge(theirs.data)
            expected = theirs.version

        if data == VACANT:
            await self._end(session._ensure_sid(), key)
            self._removed()
        else:
            self._saved(key, data, result)
            await self._send(signals.session_saved)
        return True

    async def _move(self, origin: Origin, key: str) -> bool:
        """Write under a new key, then end the old one: at no time is there none.

        A session gets a new key with a new id; one of version 3, with its first save.
        """
        session, records = self._session, self._records
        is_new_id = origin.sid != session._ensure_sid()
        written: Version | None = None
        old_key: str
        expected: Version | Expect
        old_key, expected = origin.key, origin.version
        if is_new_id or session._is_empty():
            old_key, expected = self._place_to_end(origin)
        while True:
            if not session._is_empty():
                data = self._encode()
                result = await self._set(key, data, ABSENT if written is None else ANY)
                if isinstance(result, Conflict):
                    there = result.record
                    if not is_alive(there):
                        return False
                    if not is_new_id:  # another request has moved this session of version 3
                        if there.data != data:
                            await self._merge(there.data)
                        return await self._write(key, there.version)
                    result = there.version
                written = result
            ended = await self._set(old_key, MARKER, expected)
            if not isinstance(ended, Conflict):
                break
            theirs = ended.record
            if theirs is None or theirs.data == MARKER:
                await self._take_back(key, written)
                return False
            try:
                await self._merge(theirs.data)
            except Exception:
                await self._take_back(key, written)
                raise
            expected = theirs.version

        if session._is_empty():  # from the start, or since others deleted what this request kept
            await self._take_back(key, written)
            await self._end(origin.sid, old_key)
            self._removed()
            return True
        assert written is not None
        if is_new_id:
            await self._clean_up(origin.sid, old_key)
        self._saved(key, data, written)
        if is_new_id:
            old = records.fingerprint(self._app, origin.sid)
            await self._send(signals.session_regenerated, old_fingerprint=old)
        await self._send(signals.session_saved)
        return True

    def _place_to_end(self, origin: Origin) -> tuple[str, Version | Expect]:
        """Where to put the marker that ends a session, and what has to be there.

        One of version 3 ends where others may be about to move it, so that they cannot any more.
        """
        key = self._records.keys_of(origin.sid)[0]
        return key, origin.version if key == origin.key else ABSENT

    async def _take_back(self, key: str, written: Version | None) -> None:
        """Remove the record under a new key, unless others have already been there."""
        if written is not None:
            await self._records.call(self._records.store.delete(key, written))

    async def _merge(self, theirs: bytes) -> None:
        """Put this request's changes into what another one stored, after a short pause."""
        session = self._session
        await self._send(signals.session_conflict)
        await self._pause()
        document = session._reserved if theirs == VACANT else self._records.decode(theirs)
        mine = session._my_keys
        if session._cleared:  # every key of the application is this request's
            mine = mine | dict.keys(session)
            document = {key: document[key] for key in (*RESERVED, METADATA) if key in document}
        session._load(merge(session._document(), document, mine))

    async def _pause(self) -> None:
        if time.monotonic() > self._deadline:
            raise SessionConflict("Other requests kept changing the session; it was not saved")
        if self._tries:  # the first one is most often the last
            await anyio.sleep(uniform(0, min(PAUSE * self._tries, LONGEST_PAUSE)))
        self._tries += 1

    async def _set(self, key: str, data: bytes, expected: Version | Expect) -> Version | Conflict:
        ttl = MARKER_LIFE if data in (MARKER, VACANT) else self.ttl()
        return await self._records.call(self._records.store.set(key, data, ttl, expected))

    def _encode(self) -> bytes:
        session = self._session
        self._seen = session._changes
        if session._origin is None or self._config.absolute_lifetime is not None:
            session._begin()
        if self._config.protection:
            session._pin_if_free()
        return self._records.encode_to_store(session._document())

    def _saved(self, key: str, data: bytes, version: Version) -> None:
        session = self._session
        expires_at = time.time() + self.ttl()
        origin = Origin(session._ensure_sid(), key, data, version, expires_at)
        session._saved(origin, everything=session._changes == self._seen)
        session._cookie = "set"

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
