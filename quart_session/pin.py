"""What binds a session to the client's address: the pin, which the document keeps as ``_addr``.

A session gets it together with its id. ``SESSION_PROTECTION`` says what happens when the session is
used from another address.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quart_session import signals
from quart_session.address import Client, Proxies
from quart_session.records import Records
from quart_session.session import NO_PIN, ServerSideSession

if TYPE_CHECKING:
    from quart import Quart

    from quart_session.config import SessionConfig

logger = logging.getLogger("quart_session")

IPV6_PREFIX = 64
"""The bits of an IPv6 address that name a site. Within it, clients change theirs all the time."""


class Pins:
    """Holds the sessions of one application to the addresses that they began at."""

    def __init__(self, config: SessionConfig, records: Records) -> None:
        self.proxies = Proxies(config.reverse_proxy, config.reverse_proxy_header)
        self._records = records
        self._mode = "delete" if config.protection is True else config.protection
        self._ipv4_prefix = config.protection_ipv4_prefix
        self._has_doubted = False

    async def admit(self, app: Quart, session: ServerSideSession) -> bool:
        """Whether the session may be used from where the request came."""
        client, origin = session._client, session._origin
        if not self._mode or origin is None:
            return True
        if client.doubt and not self._has_doubted:
            self._has_doubted = True
            logger.warning(
                "SESSION_PROTECTION cannot tell clients apart: %s. SESSION_REVERSE_PROXY and "
                "SESSION_REVERSE_PROXY_HEADER say where their addresses are",
                client.doubt,
            )
        if self._is_at_home(session._reserved.get("_addr"), client):
            return True
        logger.warning(
            "The session %s was used from another address; SESSION_PROTECTION = %r",
            self._records.fingerprint(app, origin.sid),
            self._mode,
        )
        await self._records.announce(
            app,
            signals.session_address_changed,
            origin.sid,
            mode=self._mode,
            address=client.name,
        )
        if self._mode == "delete":
            # The other place last: one of version 3 may be moving there just now.
            for key in sorted(self._records.keys_of(origin.sid), key=origin.key.__ne__):
                await self._records.remove(key)
            await self._records.announce(app, signals.session_destroyed, origin.sid)
        return self._mode == "log"

    def _is_at_home(self, pin: object, client: Client) -> bool:
        if pin in NO_PIN:
            return True
        pinned = self.proxies.read_pin(pin)
        if pinned is None or client.address is None:
            return pin == client.name
        if pinned.version != client.address.version:
            return False
        prefix = self._ipv4_prefix if pinned.version == 4 else IPV6_PREFIX
        return not (int(pinned) ^ int(client.address)) >> (pinned.max_prefixlen - prefix)
