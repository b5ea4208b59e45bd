"""Headers of the PROXY protocol: each part is read as the specification says, and nothing else gets through."""

import socket
import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from prefork.serving.crc32c import crc32c
from prefork.serving.proxy_header import (
    ProxyHeader,
    ProxyHeaderError,
    ProxySSL,
    binary_length,
    parse_binary,
    parse_text,
)
from tests.support.proxies import (
    ADDRESSES,
    CLIENT,
    LOCAL,
    SERVICE,
    TCP6,
    TEXT_HEADER,
    UNIX,
    binary,
    ip_addresses,
    tlv,
    unix_addresses,
)

UNSPEC, UDP4 = 0x00, 0x12


def read(header: bytes) -> ProxyHeader:
    return parse_binary(header[:16], header[16:])


def with_checksum(before: bytes, after: bytes = b"") -> bytes:
    blank = binary(before + tlv(3, bytes(4)) + after)
    return binary(before + tlv(3, crc32c(blank).to_bytes(4)) + after)


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (TEXT_HEADER, CLIENT, SERVICE),
        (b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", ("2001:db8::7", 0, 0, 0), ("::1", 65535, 0, 0)),
        (
            b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
            ("ffff:" * 7 + "ffff", 65535, 0, 0),
            ("ffff:" * 7 + "ffff", 65535, 0, 0),
        ),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", None, None),
    ],
)
def test_a_line_of_version_1_is_read(line: bytes, source: Any, destination: Any) -> None:
    assert parse_text(line) == ProxyHeader(1, source, destination)


def test_the_longest_line_of_version_1_has_107_bytes() -> None:
    longest = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"

    assert parse_text(longest) == ProxyHeader(1)
    with pytest.raises(ProxyHeaderError, match="longer than 107 bytes"):
        parse_text(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 443",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 443 1\r\n",
        b"PROXY TCP4  203.0.113.7 198.51.100.1 4242 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 65536\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 +443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 0443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 \r\n",
        b"PROXY TCP4 203.0.113.007 198.51.100.1 4242 443\r\n",
        b"PROXY TCP4 203.0.113 198.51.100.1 4242 443\r\n",
        b"PROXY TCP4 ::1 ::1 4242 443\r\n",
        b"PROXY TCP6 203.0.113.7 198.51.100.1 4242 443\r\n",
        b"PROXY TCP6 fe80::1%lo ::1 4242 443\r\n",
        b"PROXY TCP4 a\0b 198.51.100.1 4242 443\r\n",
        b"PROXY UDP4 203.0.113.7 198.51.100.1 4242 443\r\n",
        b"proxy TCP4 203.0.113.7 198.51.100.1 4242 443\r\n",
        "PROXY TCP4 203.0.113.7 198.51.100.1 4242 ٤٤٣\r\n".encode(),
        b"PROXY\r\n",
        b"\r\n",
        b"",
    ],
)
def test_a_broken_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_text(line)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (binary(ADDRESSES), ProxyHeader(2, CLIENT, SERVICE)),
        (binary(ADDRESSES, family=UDP4), ProxyHeader(2, CLIENT, SERVICE)),
        (
            binary(ip_addresses(("2001:db8::7", 1), ("::1", 2)), family=TCP6),
            ProxyHeader(2, ("2001:db8::7", 1, 0, 0), ("::1", 2, 0, 0)),
        ),
        (binary(unix_addresses(b"/run/a", b"\0app"), family=UNIX), ProxyHeader(2, "/run/a", b"\0app")),
        (binary(unix_addresses(b"/" * 108, b""), family=UNIX), ProxyHeader(2, "/" * 108, b"")),
        (binary(unix_addresses(b"/\xff", b"/b\0junk"), family=UNIX), ProxyHeader(2, "/\udcff", "/b")),
    ],
)
def test_addresses_of_version_2_have_the_form_that_accept_gives_them(header: bytes, expected: ProxyHeader) -> None:
    assert read(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        binary(b"", LOCAL, UNSPEC),
        binary(ADDRESSES, LOCAL),
        binary(b"junk", LOCAL, 0xFF),
        binary(b"", family=UNSPEC),
        binary(b"\xff" * 40, family=UNSPEC),
    ],
)
def test_of_a_local_or_unspecified_connection_the_rest_is_ignored(header: bytes) -> None:
    assert read(header) == ProxyHeader(2)


def test_the_extras_of_version_2_are_read() -> None:
    about_ssl = struct.pack("!BI", 7, 0) + tlv(0x21, b"TLSv1.3") + tlv(0x22, "Zoë".encode()) + tlv(0x23, b"AES")
    about_ssl += tlv(0x24, b"SHA256") + tlv(0x25, b"RSA2048") + tlv(0x28, b"DER")
    extras = tlv(1, b"h2") + tlv(2, b"example.org") + tlv(4, b"....") + tlv(5, b"id") + tlv(0x20, about_ssl)

    header = read(binary(ADDRESSES + extras + tlv(0x30, b"blue") + tlv(0xEA, b"\x01vpce")))

    assert header == ProxyHeader(
        2,
        CLIENT,
        SERVICE,
        alpn=b"h2",
        authority="example.org",
        unique_id=b"id",
        ssl=ProxySSL(True, True, True, "TLSv1.3", "Zoë", "AES", "SHA256", "RSA2048"),
        netns="blue",
        other=((0xEA, b"\x01vpce"),),
    )


@pytest.mark.parametrize(
    ("client", "verify", "certificate", "verified"),
    [(1, 0, False, False), (3, 0, True, True), (5, 0, True, True), (3, 1, True, False)],
)
def test_a_certificate_counts_as_verified_only_if_there_is_one(
    client: int, verify: int, certificate: bool, verified: bool
) -> None:
    header = read(binary(ADDRESSES + tlv(0x20, struct.pack("!BI", client, verify))))

    assert header.ssl == ProxySSL(True, certificate, verified)


def test_a_right_checksum_is_accepted_wherever_it_stands() -> None:
    assert read(with_checksum(ADDRESSES + tlv(4, b"xx"), tlv(2, b"a"))).authority == "a"


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (binary(ADDRESSES, command=0x11), "version and command 0x11"),
        (binary(ADDRESSES, command=0x22), "version and command 0x22"),
        (binary(ADDRESSES, family=0x10), "family and transport 0x10"),
        (binary(ADDRESSES, family=0x13), "family and transport 0x13"),
        (binary(ADDRESSES, family=0x41), "family and transport 0x41"),
        (binary(ADDRESSES[:-1]), "inside its addresses"),
        (binary(ADDRESSES, family=TCP6), "inside its addresses"),
        (binary(ADDRESSES + b"\x04"), "inside a TLV"),
        (binary(ADDRESSES + b"\x04\x00\x05abcd"), "longer than what holds it"),
        (binary(ADDRESSES + tlv(3, b"\0\0\0\0")), "checksum"),
        (binary(ADDRESSES + tlv(3, b"")), "checksum"),
        (binary(ADDRESSES + tlv(0x20, b"\x01")), "too short"),
        (binary(ADDRESSES + tlv(0x20, bytes(5) + b"\x21\x00\x09x")), "longer than what holds it"),
        (binary(ADDRESSES + tlv(2, b"\xff")), "not UTF-8"),
        (binary(ADDRESSES)[:-1], "not as long as it says"),
        (binary(ADDRESSES) + b"x", "not as long as it says"),
        (b"x" + binary(ADDRESSES)[1:], "signature"),
    ],
)
def test_a_broken_header_of_version_2_is_refused(header: bytes, complaint: str) -> None:
    with pytest.raises(ProxyHeaderError, match=complaint):
        read(header)


@pytest.mark.fault("proxy-header")
def test_every_flipped_bit_of_a_header_with_a_checksum_is_noticed() -> None:
    header = with_checksum(ADDRESSES, tlv(2, b"example.org"))
    flipped = [header[:at] + bytes([header[at] ^ 1 << bit]) + header[at + 1 :] for at in range(28) for bit in range(8)]
    # What makes a header LOCAL makes all else in it void.
    told = [one for one in flipped if one[12] != LOCAL]

    assert [one for one in told if _is_read(one)] == []


def _is_read(header: bytes) -> bool:
    try:
        read(header)
    except ProxyHeaderError:
        return False
    return True


TLVS = st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5, 0x20, 0x21, 0x30, 0xE0]), st.binary(max_size=40)))


@pytest.mark.fault("proxy-header")
@given(st.binary(max_size=400), st.sampled_from([0x20, 0x21, 0x31]), st.sampled_from([0, 0x11, 0x12, 0x21, 0x31, 0x41]))
@example(b"", 0x21, 0x11)
def test_nothing_but_its_own_error_comes_out_of_version_2(rest: bytes, command: int, family: int) -> None:
    _is_read(binary(rest, command, family))


@given(TLVS, st.binary(max_size=3))
def test_nothing_but_its_own_error_comes_out_of_hostile_extras(tlvs: list[tuple[int, bytes]], junk: bytes) -> None:
    _is_read(binary(ADDRESSES + b"".join(tlv(*one) for one in tlvs) + junk))


@pytest.mark.fault("proxy-header")
@given(st.binary(max_size=200))
def test_nothing_but_its_own_error_comes_out_of_version_1(line: bytes) -> None:
    for whole in (line, b"PROXY " + line + b"\r\n", b"PROXY TCP4 " + line + b"\r\n", b"PROXY TCP6 " + line + b"\r\n"):
        try:
            parse_text(whole)
        except ProxyHeaderError:
            pass  # as it should be


@given(st.binary(min_size=16, max_size=16))
def test_nothing_but_its_own_error_comes_out_of_the_length(fixed: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        binary_length(b"\0" + fixed[1:])


Ends = list[tuple[Any, int]]
ENDS: st.SearchStrategy[Ends] = st.sampled_from([4, 6]).flatmap(
    lambda version: st.lists(
        st.tuples(st.ip_addresses(v=4 if version == 4 else 6), st.integers(0, 65535)), min_size=2, max_size=2
    )
)
EXTRAS = st.builds(ProxyProtocolTLV, unique_id=st.binary(max_size=128), authority=st.text(max_size=100))


def result_of(ends: Ends, extras: Any) -> Any:
    """The header as the other implementation has it."""
    source, destination = ends
    kind: Any = ProxyResultIPv4 if source[0].version == 4 else ProxyResultIPv6
    return kind(source, destination, protocol=socket.SOCK_STREAM, tlv=extras)


def comparable(header: ProxyHeader) -> Ends:
    return [(ip_address(end[0]), end[1]) for end in (header.source, header.destination) if isinstance(end, tuple)]


@given(ENDS)
def test_what_another_implementation_writes_in_version_1_is_read(ends: Ends) -> None:
    written = ProxyProtocolV1().pack(result_of(ends, ProxyProtocolTLV()))

    assert comparable(parse_text(written)) == ends


@given(ENDS, EXTRAS)
def test_what_another_implementation_writes_in_version_2_with_a_checksum_is_read(ends: Ends, extras: Any) -> None:
    header = read(ProxyProtocolV2().pack(result_of(ends, extras)))

    assert comparable(header) == ends
    assert (header.unique_id, header.authority) == (extras.unique_id, extras.authority)
