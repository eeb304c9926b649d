"""The client's address, told from what proxies wrote and whatever the client wrote before them."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest
from growth import PROPORTIONAL, growth
from long_form import SOAK
from quart import Quart
from werkzeug.datastructures import Headers

from quart_session.address import LOCAL, Proxies, _read_address, read_address

PROXY = "10.0.0.1"
"""The peer, where a row names no other."""

NETWORKS = ["10.0.0.0/8", "192.0.2.7", "2001:db8:aaaa::/48", "unix:"]

app = Quart(__name__)


async def no_push(path, headers): ...


def request_of(peer, lines):
    """A request as Quart makes it: the peer's address is the first line of its headers."""
    headers = Headers()
    if peer is not None:
        headers.add("Remote-Addr", peer)
    for name, value in lines:
        headers.add(name, value)
    scope = {"type": "http"}
    return app.request_class(
        "GET", "http", "/", b"", headers, "", "1.1", scope, send_push_promise=no_push
    )


def client(trusted, lines=(), peer=PROXY, header="X-Forwarded-For"):
    return Proxies(trusted, header).client_of(request_of(peer, lines))


def names(trusted, *values, peer=PROXY, header="X-Forwarded-For"):
    return client(trusted, [(header, value) for value in values], peer, header).name


# What SESSION_REVERSE_PROXY is, the lines of X-Forwarded-For, and whose address it is.
X_FORWARDED_FOR = [
    (False, ["203.0.113.5"], PROXY),
    (False, [], PROXY),
    (0, ["203.0.113.5"], PROXY),
    # One proxy
    (True, ["203.0.113.5"], "203.0.113.5"),
    (1, ["203.0.113.5"], "203.0.113.5"),
    (True, ["198.51.100.9, 203.0.113.5"], "203.0.113.5"),
    (True, ["198.51.100.9,203.0.113.5"], "203.0.113.5"),
    (True, ["198.51.100.9 ,\t 203.0.113.5 \t"], "203.0.113.5"),
    (True, ["198.51.100.9", "203.0.113.5"], "203.0.113.5"),
    (True, ["198.51.100.9, 198.51.100.8", "203.0.113.5"], "203.0.113.5"),
    (True, ["", "203.0.113.5"], "203.0.113.5"),
    (True, [", 203.0.113.5"], "203.0.113.5"),
    (True, ["unknown, 203.0.113.5"], "203.0.113.5"),
    (True, ['"198.51.100.9, 203.0.113.5'], "203.0.113.5"),
    (True, ["x" * 60_000 + ", 203.0.113.5"], "203.0.113.5"),
    # Spellings
    (True, ["203.0.113.5:4711"], "203.0.113.5"),
    (True, ["203.0.113.5:_hidden"], "203.0.113.5"),
    (True, ["2001:db8::5"], "2001:db8::5"),
    (True, ["2001:DB8:0:0:0:0:0:5"], "2001:db8::5"),
    (True, ["[2001:db8::5]"], "2001:db8::5"),
    (True, ["[2001:db8::5]:4711"], "2001:db8::5"),
    (True, ["fe80::5%eth0"], "fe80::5"),
    (True, ["[fe80::5%25eth0]"], "fe80::5"),
    (True, ["::ffff:203.0.113.5"], "203.0.113.5"),
    (True, ["::ffff:cb00:7105"], "203.0.113.5"),
    (True, ["[::ffff:203.0.113.5]:80"], "203.0.113.5"),
    # Nothing that is an address where one has to be: the peer counts
    (True, [], PROXY),
    (True, [""], PROXY),
    (True, [" "], PROXY),
    (True, [","], PROXY),
    (True, ["203.0.113.5,"], PROXY),
    (True, ["203.0.113.5", ""], PROXY),
    (True, ["203.0.113.5, unknown"], PROXY),
    (True, ["203.0.113.5, _hidden"], PROXY),
    (True, ["203.0.113.5, unix:"], PROXY),
    (True, ["localhost"], PROXY),
    (True, ["203.0.113.256"], PROXY),
    (True, ["203.0.113.05"], PROXY),
    (True, ["203.0.113"], PROXY),
    (True, ["0xcb007105"], PROXY),
    (True, ["3405803781"], PROXY),
    (True, ["203.0.113.5:"], PROXY),
    (True, ["203.0.113.5:port"], PROXY),
    (True, ["203.0.113.5 198.51.100.9"], PROXY),
    (True, ["[203.0.113.5]"], PROXY),
    (True, ["[2001:db8::5"], PROXY),
    (True, ["[2001:db8::5]4711"], PROXY),
    (True, ["2001:db8::5::1"], PROXY),
    (True, ["\u0662\u0660\u0663.0.113.5"], PROXY),
    (True, ["x" * 60_000], PROXY),
    (True, ["203.0.113.5;198.51.100.9"], PROXY),
    (True, ["for=203.0.113.5"], PROXY),
    # Two proxies
    (2, ["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
    (2, ["203.0.113.5", "10.0.0.2"], "203.0.113.5"),
    (2, ["198.51.100.9, 203.0.113.5, 10.0.0.2"], "203.0.113.5"),
    (2, ["203.0.113.5"], PROXY),
    (2, ["203.0.113.5, , 10.0.0.2"], PROXY),
    (2, ["203.0.113.5, unknown, 10.0.0.2"], PROXY),
    (3, ["203.0.113.5, 10.0.0.2"], PROXY),
    (10**9, ["203.0.113.5, 10.0.0.2"], PROXY),
    # Networks
    (NETWORKS, ["203.0.113.5"], "203.0.113.5"),
    (NETWORKS, ["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
    (NETWORKS, ["203.0.113.5, 192.0.2.7, 2001:db8:aaaa::1, 10.9.9.9"], "203.0.113.5"),
    (NETWORKS, ["203.0.113.5, ::ffff:10.9.9.9"], "203.0.113.5"),
    (NETWORKS, ["198.51.100.9, 203.0.113.5, 10.0.0.2"], "203.0.113.5"),
    (NETWORKS, ["10.1.2.3, 203.0.113.5, 10.0.0.2"], "203.0.113.5"),
    (NETWORKS, ["203.0.113.5, 192.0.2.8"], "192.0.2.8"),
    (NETWORKS, ["10.1.2.3, 10.0.0.2"], "10.1.2.3"),
    (NETWORKS, ["203.0.113.5, unknown, 10.0.0.2"], PROXY),
    (NETWORKS, ["unknown, 10.0.0.2"], PROXY),
    (NETWORKS, [], PROXY),
    (["::ffff:10.0.0.0/104"], ["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
]


@pytest.mark.parametrize(("trusted", "lines", "address"), X_FORWARDED_FOR)
def test_x_forwarded_for(trusted, lines, address):
    assert names(trusted, *lines) == address


FORWARDED = [
    (True, ["for=203.0.113.5"], "203.0.113.5"),
    (True, ["For=203.0.113.5"], "203.0.113.5"),
    (True, ['for="203.0.113.5:4711"'], "203.0.113.5"),
    (True, ['for="203.0.113.5:_p.o-r_t"'], "203.0.113.5"),
    (True, ['for="[2001:db8::5]"'], "2001:db8::5"),
    (True, ['for="[2001:db8::5]:4711"'], "2001:db8::5"),
    (True, ['for="\\[2001:db8::5\\]"'], "2001:db8::5"),
    (True, ["for=203.0.113.5:80"], "203.0.113.5"),
    (True, ["for=203.0.113.5;proto=https;by=10.0.0.1"], "203.0.113.5"),
    (True, ['by=10.0.0.1; host="a, b;c=\\"d"; for=203.0.113.5'], "203.0.113.5"),
    (True, ["for=203.0.113.5;"], "203.0.113.5"),
    (True, ["for=198.51.100.9, for=203.0.113.5"], "203.0.113.5"),
    (True, ["for=198.51.100.9,for=198.51.100.8", "for=203.0.113.5"], "203.0.113.5"),
    # Quotes that the client opened or escaped, and left so
    (True, ['for="198.51.100.9, for=203.0.113.5'], "203.0.113.5"),
    (True, ['for="198.51.100.9', "for=203.0.113.5"], "203.0.113.5"),
    (True, ['for="198.51.100.9\\', 'for="203.0.113.5:80"'], "203.0.113.5"),
    (True, ['for=198.51.100.9;host="\\', 'for="203.0.113.5:80";host="\\""'], "203.0.113.5"),
    (True, ['", for=198.51.100.9, for="203.0.113.5"'], "203.0.113.5"),
    (True, ['for=203.0.113.5;host="x\\\\"'], "203.0.113.5"),
    # Nothing that is an address where one has to be
    (True, [], PROXY),
    (True, [""], PROXY),
    (True, ["203.0.113.5"], PROXY),
    (True, ["for=unknown"], PROXY),
    (True, ["for=_hidden"], PROXY),
    (True, ['for="_SEVKISEK"'], PROXY),
    (True, ["for="], PROXY),
    (True, ['for=""'], PROXY),
    (True, ["proto=https"], PROXY),
    (True, ["for=203.0.113.5, proto=https"], PROXY),
    (True, ["for=203.0.113.5,"], PROXY),
    (True, ["for=203.0.113.5;for=198.51.100.9"], PROXY),
    (True, ["for=203.0.113.5 proto=https"], PROXY),
    (True, ['for="203.0.113.5'], PROXY),
    (True, ['for=203.0.113.5"'], PROXY),
    (True, ["for = 203.0.113.5"], PROXY),
    (True, ["for=[2001:db8::5"], PROXY),
    (True, ["for=203.0.113.5;host=" + "x" * 60_000], PROXY),
    # More proxies
    (2, ['for=198.51.100.9, for="[2001:db8::5]:1", for=10.0.0.2'], "2001:db8::5"),
    (2, ["for=203.0.113.5"], PROXY),
    (NETWORKS, ['for=198.51.100.9, for=203.0.113.5;by=_a, for="10.0.0.2"'], "203.0.113.5"),
    (NETWORKS, ["for=203.0.113.5, for=unknown, for=10.0.0.2"], PROXY),
]


@pytest.mark.parametrize(("trusted", "lines", "address"), FORWARDED)
def test_forwarded(trusted, lines, address):
    assert names(trusted, *lines, header="Forwarded") == address


PEERS = [
    # Not trusted: it counts itself
    (NETWORKS, "198.51.100.9", "198.51.100.9"),
    (NETWORKS, "192.0.2.8", "192.0.2.8"),
    (["10.0.0.0/8"], LOCAL, LOCAL),
    (["10.0.0.0/8"], None, None),
    # Trusted
    (NETWORKS, "::ffff:10.0.0.1", "203.0.113.5"),
    (NETWORKS, "2001:db8:aaaa::9", "203.0.113.5"),
    (NETWORKS, LOCAL, "203.0.113.5"),
    (NETWORKS, "/run/proxy.sock", "203.0.113.5"),
    # With a number, whoever may connect is the proxy
    (1, "198.51.100.9", "203.0.113.5"),
    (1, LOCAL, "203.0.113.5"),
    (1, None, "203.0.113.5"),
    # Without proxies, headers say nothing
    (False, "2001:DB8::0005", "2001:db8::5"),
    (False, "::ffff:198.51.100.9", "198.51.100.9"),
    (False, "fe80::5%eth0", "fe80::5"),
    (False, LOCAL, LOCAL),
    (False, "", ""),
    (False, None, None),
]


@pytest.mark.parametrize(("trusted", "peer", "address"), PEERS)
def test_the_peer(trusted, peer, address):
    assert names(trusted, "203.0.113.5", peer=peer) == address


def test_there_are_enough_rows():
    assert len(X_FORWARDED_FOR) + len(FORWARDED) + len(PEERS) >= 60 * 2


@pytest.mark.parametrize("trusted", [True, 2, NETWORKS])
@pytest.mark.parametrize(
    ("written", "other"), [("X-Forwarded-For", "Forwarded"), ("Forwarded", "X-Forwarded-For")]
)
def test_a_header_that_the_proxies_do_not_write_is_never_looked_at(trusted, written, other):
    def chain(header, *addresses):
        prefix = "for=" if header == "Forwarded" else ""
        return header, ", ".join(prefix + address for address in addresses)

    theirs = chain(written, "203.0.113.5", "10.0.0.2")
    forged = chain(other, "198.51.100.9", "198.51.100.8")
    expected = client(trusted, [theirs], header=written)
    for lines in ([theirs, forged], [forged, theirs], [forged, theirs, forged]):
        assert client(trusted, lines, header=written) == expected
    assert client(trusted, [forged], header=written).name == PROXY


def test_a_header_that_the_client_calls_remote_addr_changes_nothing():
    forged = [("Remote-Addr", "203.0.113.5")]
    assert client(False, forged, peer="198.51.100.9").name == "198.51.100.9"


@pytest.mark.parametrize(
    ("trusted", "lines", "peer"),
    [
        (True, [], PROXY),
        (2, ["203.0.113.5"], PROXY),
        (NETWORKS, ["unknown"], PROXY),
        (NETWORKS, [], PROXY),
        (False, [], LOCAL),
        (["10.0.0.0/8"], ["203.0.113.5"], LOCAL),
        (True, [], LOCAL),
    ],
)
def test_who_is_not_told_apart_is_in_doubt(trusted, lines, peer):
    assert client(trusted, [("X-Forwarded-For", line) for line in lines], peer).doubt


@pytest.mark.parametrize(
    ("trusted", "peer"), [(False, "203.0.113.5"), (NETWORKS, "203.0.113.5"), (True, PROXY)]
)
def test_who_is_told_apart_is_not_in_doubt(trusted, peer):
    assert not client(trusted, [("X-Forwarded-For", "203.0.113.5")], peer).doubt


# What version 3 stored, by the rule that is in force now.
PINS = [
    (False, "203.0.113.5", "203.0.113.5"),
    (False, " ::ffff:203.0.113.5", "203.0.113.5"),
    (False, "203.0.113.5, 10.0.0.1", None),
    (True, "203.0.113.5", "203.0.113.5"),
    (True, "198.51.100.9, 203.0.113.5", "203.0.113.5"),
    (True, "198.51.100.9, 203.0.113.5:80", "203.0.113.5"),
    (2, "203.0.113.5", "203.0.113.5"),
    (2, "198.51.100.9,203.0.113.5, 10.0.0.1", "203.0.113.5"),
    (3, "203.0.113.5, 10.0.0.1", None),
    (NETWORKS, "198.51.100.9, 203.0.113.5, 10.0.0.1", "203.0.113.5"),
    (NETWORKS, "unknown, 10.0.0.1", None),
    (True, "unknown", None),
    (True, "office", None),
    (True, ["203.0.113.5"], None),
    (True, 5, None),
]


@pytest.mark.parametrize(("trusted", "pin", "address"), PINS)
def test_a_pin_is_read_by_the_same_rule(trusted, pin, address):
    read = Proxies(trusted, "X-Forwarded-For").read_pin(pin)
    assert (read and str(read)) == address


def test_a_pin_that_version_3_stored_is_no_forwarded_header():
    read = Proxies(True, "Forwarded").read_pin("198.51.100.9, 203.0.113.5")
    assert str(read) == "203.0.113.5"


def test_what_is_read_is_what_the_standard_library_reads():
    rng = random.Random(6)
    for _ in range(1000):
        address = ip_address(rng.getrandbits(rng.choice([32, 128])))
        for text in (str(address), address.exploded, address.exploded.upper()):
            assert read_address(text) == address


def test_what_is_too_long_for_an_address_is_not_remembered():
    _read_address.cache_clear()
    for name in ("X-Forwarded-For", "Forwarded"):
        names(2, "x" * 60_000 + ", 203.0.113.5", header=name)
        names(2, "for=" + "x" * 60_000 + ", for=203.0.113.5", header=name)
    names(False, peer="x" * 60_000)
    assert _read_address.cache_info().currsize <= 4


# -- chains

CLIENT_MADE = [
    "",
    " ",
    ",",
    "unknown",
    "_hidden",
    "198.51.100.9",
    "10.0.0.2",
    "10.0.0.1",
    "2001:db8:aaaa::1",
    "[::1]:80",
    "::ffff:10.0.0.3",
    "for=10.0.0.2",
    'for="[2001:db8:aaaa::7]"',
    'for="',
    "for=198.51.100.9;by=",
    ';host="',
    '"',
    "\\",
    '\\"',
    '"\\',
    "\\\\",
    ";",
    "=",
    "\x00",
    "\u00e9",
    "x" * 300,
    '"' * 7,
]
"""What a client sends to be taken for another: garbage, trusted addresses, quotes left open."""


def attack(rng):
    """Lines of a header that a client made up."""
    return [
        "".join(
            rng.choice(CLIENT_MADE) + rng.choice(["", ",", ", "]) for _ in range(rng.randrange(8))
        )
        for _ in range(rng.randrange(4))
    ]


def spell(rng, address, header):
    """How a proxy may write *address*."""
    text = str(address)
    if address.version == 6:
        text = f"[{text}]" if header == "Forwarded" or rng.random() < 0.5 else text
    if rng.random() < 0.3 and (address.version == 4 or text.startswith("[")):
        text += f":{rng.randrange(1, 65536)}"
    if header == "X-Forwarded-For":
        return text
    pairs = [f'for="{text}"' if address.version == 6 or ":" in text else f"for={text}"]
    pairs += rng.sample(
        ["proto=https", "by=_us", r'host="a\"b, c;d"', r'by="\\"', 'host="x"'], rng.randrange(3)
    )
    rng.shuffle(pairs)
    return rng.choice([";", "; "]).join(pairs)


def random_address(rng, trusted):
    while True:
        if trusted:
            network = rng.choice([(10 << 24, 24, 4), (0x20010DB8AAAA << 80, 80, 6)])
            base, bits, version = network
            address = ip_address(base + rng.getrandbits(bits))
        else:
            version = rng.choice([4, 6])
            address = ip_address(rng.getrandbits(32 if version == 4 else 128))
        if read_address(str(address)) != address:  # an IPv4 address in the clothes of IPv6
            continue
        if any(address in n for n in Proxies(NETWORKS, "Forwarded")._networks) is trusted:
            return address


def test_nothing_that_a_client_adds_on_the_left_changes_its_address():
    count = 100_000 if SOAK else 3_000
    rng = random.Random(2026)
    rules = {
        (header, hops): Proxies(hops or NETWORKS, header)
        for header in ("X-Forwarded-For", "Forwarded")
        for hops in (0, 1, 2, 3, 4)
    }
    for _ in range(count):
        header = rng.choice(["X-Forwarded-For", "Forwarded"])
        proxies = rng.randrange(1, 5)
        chain = [random_address(rng, trusted=False)]
        chain += [random_address(rng, trusted=True) for _ in range(proxies)]
        peer = str(chain.pop())

        lines = attack(rng)
        for address in chain:  # each proxy appends whom it was asked by
            element = spell(rng, address, header)
            if lines and rng.random() < 0.5:
                lines[-1] = f"{lines[-1]}{rng.choice([',', ', '])}{element}"
            else:
                lines.append(element)
        request = request_of(peer, [(header, line) for line in lines])
        for hops in (0, proxies):  # as a list of networks, and as a number
            found = rules[header, hops].client_of(request)
            assert found == (str(chain[0]), chain[0], ""), (header, hops, lines, peer)


def test_the_chains_find_a_reader_that_reads_from_the_left(monkeypatch):
    from quart_session import address

    def from_the_left(header):
        quoted, at = False, 0
        elements = [""]
        while at < len(header):
            if quoted and header[at] == "\\":
                at += 1
            elif header[at] == '"':
                quoted = not quoted
            if header[at : at + 1] == "," and not quoted:
                elements.append("")
            else:
                elements[-1] += header[at : at + 1]
            at += 1
        return iter([address._read_element(element) for element in reversed(elements)])

    monkeypatch.setattr(address, "_forwarded_for", from_the_left)
    with pytest.raises(AssertionError, match="Forwarded"):
        test_nothing_that_a_client_adds_on_the_left_changes_its_address()


UNITS = ["10.0.0.2,", "for=10.0.0.2,", '"', '\\"', '"\\', 'for="', "\\", ";", " ", "for=x;", "x"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_header_costs_in_proportion_to_its_length(header, unit):
    rules = [Proxies(NETWORKS, header), Proxies(10**6, header)]

    def read(request):
        for rule in rules:
            rule.client_of(request)

    small, large = (
        request_of(PROXY, [(header, unit * (size // len(unit)) + "!")]) for size in (4_000, 64_000)
    )
    assert growth(read, small, large) < PROPORTIONAL
