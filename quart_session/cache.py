"""The backend as a cache of the application's own, beside its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart import current_app

from quart_session.cookie import is_session_id
from quart_session.records import Records
from quart_session.remains import is_alive
from quart_session.stores.base import Store

if TYPE_CHECKING:
    from quart import Quart


class BackendAsCache:
    """What a session interface gives the application for values of its own.

    .. versionadded:: 4.0
    """

    store: Store
    records: Records
    key_prefix: str

    async def get(self, key: str, app: Quart | None = None) -> str | bytes | None:
        """The value under *key*; ``None`` if there is none.

        It is a str, or bytes where it is no UTF-8 and, as in version 3, always on memcached and
        with a client of your own for Redis that does not decode.

        A key of the prefix and a session id gives that session's stored document.

        :raises StoreError: the backend failed.
        """
        for place in self._places(key):
            if is_alive(record := await self.records.find(place)):
                if self.store.gives_bytes:
                    return record.data
                try:
                    return record.data.decode()
                except UnicodeDecodeError:
                    return record.data
        return None

    async def set(
        self,
        key: str,
        value: str | bytes | int | float,
        expiry: float | None = None,
        app: Quart | None = None,
    ) -> None:
        """Store *value* under *key* for *expiry* seconds; a number is stored as its text.

        Without *expiry*, or with 0, it lives as long as a session of *app*.

        :raises StoreError: the backend failed.
        """
        if not expiry:
            expiry = (app or current_app).permanent_session_lifetime.total_seconds()
        if expiry <= 0:
            raise ValueError(f"expiry = {expiry!r} is not allowed: it takes seconds, more than 0")
        if isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str | bytes):
            raise TypeError(f"the value must be str or bytes, not {type(value).__name__}")
        data = value.encode() if isinstance(value, str) else value
        await self.records.call(self.store.set(self._places(key)[0], data, expiry))

    async def delete(self, key: str, app: Quart | None = None) -> None:
        """Remove *key*; removing nothing succeeds.

        :raises StoreError: the backend failed.
        """
        for place in self._places(key):
            await self.records.call(self.store.delete(place))

    def _places(self, key: str) -> list[str]:
        sid = key.removeprefix(self.key_prefix)
        if key.startswith(self.key_prefix) and is_session_id(sid):
            return self.records.keys_of(sid)
        return [key]
