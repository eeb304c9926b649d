"""The client's address: that of the peer, or the one that trusted proxies tell.

Every proxy appends the address that it was asked from. So what lies to the right was written by
proxies that are trusted, and what lies to the left by whoever had the request first: headers are
read from the right, and never further than trusted hands have written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from quart.wrappers.base import BaseRequestWebsocket

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

LOCAL = "<local>"
"""What Quart says of a peer without an address: one on a Unix socket, or a test client."""

UNIX = "unix:"
"""What stands for such a peer among trusted networks."""

HEADERS = ("X-Forwarded-For", "Forwarded")

LONGEST = 1000
"""Characters of one element of a header; what is longer is no address, and is not remembered."""

_PORT = re.compile(r":(\d{1,5}|_[\w.-]+)", re.ASCII)
_PARAMETER = re.compile(
    r"""[ \t]* ([!#$%&'*+.^_`|~\w-]+) = (?: "((?:[^"\\]|\\.)*)" | ([^\s",;]*) ) [ \t]* (?:;|\Z)""",
    re.ASCII | re.VERBOSE,
)


class Client(NamedTuple):
    """Whom a request came from."""

    name: str | None
    """The address as text, in its shortest form; or what the server says where it has none."""

    address: Address | None

    doubt: str
    """Why this may not be the client's own address; empty if it is."""


NOBODY = Client(None, None, "")


def read_address(text: str) -> Address | None:
    """The address in *text*, with or without brackets and port; ``None`` if there is none.

    ``::ffff:192.0.2.1`` is 192.0.2.1, and the zone of ``fe80::1%eth0`` says nothing to others.
    """
    return None if len(text) > LONGEST else _read_address(text)


@lru_cache(maxsize=4096)
def _read_address(text: str) -> Address | None:
    host, port = text, ""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or ":" not in host:
            return None
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
        port = colon + port
    if port and not _PORT.fullmatch(port):
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


@lru_cache(maxsize=4096)
def _client(address: Address) -> Client:
    return Client(str(address), address, "")


def _peer(name: str | None) -> Client:
    if name is not None and (address := read_address(name)) is not None:
        return _client(address)
    return Client(name, None, "the server does not tell the peer's address")


def read_networks(networks: Collection[str]) -> list[Network]:
    """The networks in *networks*, without :data:`UNIX`.

    :raises ValueError: one of them is none, or has bits set beyond its prefix.
    """
    read = []
    for text in networks:
        if text == UNIX:
            continue
        network = ip_network(text)
        if isinstance(network, IPv6Network) and network.prefixlen >= 96:
            mapped = network.network_address.ipv4_mapped
            network = ip_network((mapped, network.prefixlen - 96)) if mapped else network
        read.append(network)
    return read


class Proxies:
    """Which proxies are trusted, and which header they write.

    :param trusted: ``SESSION_REVERSE_PROXY``: False, True for one proxy, the number of proxies, or
        their networks.
    :param header: one of :data:`HEADERS`. The other one is never looked at: proxies that do not
        write it pass on whatever the client sent.
    """

    def __init__(self, trusted: int | Collection[str], header: str) -> None:
        self._hops = int(trusted) if isinstance(trusted, int) else None
        self._networks = [] if isinstance(trusted, int) else read_networks(trusted)
        self._trusts = lru_cache(maxsize=4096)(self._is_in_a_network)
        self._trusts_unix = not isinstance(trusted, int) and UNIX in trusted
        self._header = header
        self._read = _forwarded_for if header == "Forwarded" else _x_forwarded_for

    def client_of(self, request: BaseRequestWebsocket) -> Client:
        """Whom *request* came from.

        Where the header does not tell it, because it has too few addresses or something else in
        their place, the peer counts as the client. Nobody can choose that address.
        """
        peer = _peer(request.remote_addr)
        if self._hops == 0 or not self._trusts_peer(peer.address):
            return peer
        header = ",".join(request.headers.getlist(self._header))
        if header and (told := self._walk(self._read(header))):
            return _client(told)
        doubt = f"{self._header} does not tell the client's address, so the proxy's counts"
        return peer._replace(doubt=doubt)

    def read_pin(self, pin: object) -> Address | None:
        """The address in *pin*, which may be a whole header as version 3 stored it."""
        if not isinstance(pin, str):
            return None
        if "," not in pin:
            return read_address(pin.strip())
        if self._hops == 0:
            return None
        return self._walk(_x_forwarded_for(pin))

    def _trusts_peer(self, peer: Address | None) -> bool:
        if self._hops is not None:
            return True
        return self._trusts_unix if peer is None else self._trusts(peer)

    def _is_in_a_network(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _walk(self, addresses: Iterator[Address | None]) -> Address | None:
        """The client among *addresses*, which come from the right: next to us first."""
        if self._hops is not None:
            return next(islice(addresses, self._hops - 1, None), None)
        address = None
        for address in addresses:
            if address is None or not self._trusts(address):
                break
        return address


def _x_forwarded_for(header: str) -> Iterator[Address | None]:
    """The addresses in ``X-Forwarded-For``, the last one first; ``None`` where there is none.

    An empty element counts as one that is no address. Passing over it would lead one hop further to
    the left than trusted hands have written.
    """
    end = len(header)
    while end >= 0:
        start = header.rfind(",", 0, end)
        yield read_address(header[start + 1 : end].strip(" \t"))
        end = start


def _forwarded_for(header: str) -> Iterator[Address | None]:
    """The addresses in ``Forwarded`` (RFC 7239, section 4), the last one first.

    It is taken apart from the right, as a quote that somebody opened on the left and never closed
    would otherwise swallow what proxies have written after it.
    """
    quoted = False
    end = at = len(header)
    while at >= 0:
        at -= 1
        character = header[at] if at >= 0 else ","
        if character == '"':
            before = header[:at] if at < LONGEST else header[at - LONGEST : at]
            escaped = (len(before) - len(before.rstrip("\\"))) % 2
            if not escaped:
                quoted = not quoted
        elif character == "," and (not quoted or at < 0):
            yield _read_element(header[at + 1 : end])
            end = at


def _read_element(element: str) -> Address | None:
    """The address in one element, such as ``for="[2001:db8::1]:4711";proto=https``."""
    if len(element) > LONGEST:
        return None
    found = []
    at = 0
    while at < len(element):
        if (parameter := _PARAMETER.match(element, at)) is None:
            return None
        name, quoted, token = parameter.groups()
        if name.lower() == "for":
            found.append(re.sub(r"\\(.)", r"\1", quoted) if token is None else token)
        at = parameter.end()
    return read_address(found[0]) if len(found) == 1 else None
