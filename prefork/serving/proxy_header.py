"""The header of the PROXY protocol, taken apart: what a proxy says about the connection that it forwards.

The specification is https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (2.1 is the text of version 1, 2.2
the binary version 2). All this comes from the network: whatever is wrong with it raises ProxyHeaderError, nothing else.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.serving.crc32c import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    Address = tuple[str, int] | tuple[str, int, int, int] | str | bytes

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIXED = struct.Struct("!12sBBH")  # of version 2: signature, version and command, family and transport, length
MOST_TEXT_BYTES = 107  # of version 1, with CR and LF (2.1)

_LOCAL, _PROXY = 0x20, 0x21
_COMBINATIONS = (0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32)  # of family and transport; no others are assigned (2.2)
_INET, _INET6, _UNIX = 1, 2, 3
_PORTS = struct.Struct("!HH")
_UNIX_PATH_BYTES = 108
_TLV = struct.Struct("!BH")
_ALPN, _AUTHORITY, _CRC32C, _NOOP, _UNIQUE_ID, _SSL, _NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x30
_SSL_FIXED = struct.Struct("!BI")
_SSL_VERSION, _SSL_CN, _SSL_CIPHER, _SSL_SIG_ALG, _SSL_KEY_ALG = 0x21, 0x22, 0x23, 0x24, 0x25
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 1, 2, 4


class ProxyHeaderError(ValueError):
    """This is no header of the PROXY protocol, or a broken one."""


@dataclass(frozen=True, slots=True)
class ProxySSL:
    """How the client talks TLS to the proxy."""

    encrypted: bool
    certificate: bool
    """Whether the client has shown a certificate, on this connection or earlier in this TLS session."""
    verified: bool
    """Whether the proxy found that certificate good."""
    version: str = ""
    common_name: str = ""
    cipher: str = ""
    signature_algorithm: str = ""
    key_algorithm: str = ""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What the proxy says. Addresses have the form that `accept()` gives them; what was not said is None.

    Without a source (LOCAL, a connection that the proxy opened for itself, or UNKNOWN) the addresses of the connection
    itself hold, and nothing else in the header counts.
    """

    version: int
    source: Address | None = None
    destination: Address | None = None
    alpn: bytes | None = None
    authority: str | None = None
    """The host name that the client asked for."""
    unique_id: bytes | None = None
    ssl: ProxySSL | None = None
    netns: str | None = None
    other: tuple[tuple[int, bytes], ...] = ()
    """Type and value of what this parser does not know."""


def parse_text(line: bytes) -> ProxyHeader:
    """Take a header of version 1 apart, with its CR and LF."""
    if not line.endswith(b"\r\n") or len(line) > MOST_TEXT_BYTES:
        raise ProxyHeaderError(f"its first line is longer than {MOST_TEXT_BYTES} bytes")
    try:
        words = line[:-2].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyHeaderError("the header is not ASCII") from None
    match words:
        case ["PROXY", "UNKNOWN", *_]:
            return ProxyHeader(1)
        case ["PROXY", "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
            kind = _INET if family == "TCP4" else _INET6
            return ProxyHeader(
                1, _text_address(kind, source, source_port), _text_address(kind, destination, destination_port)
            )
    raise ProxyHeaderError("the header does not have the form of version 1")


def binary_length(fixed: bytes) -> int:
    """Return how many bytes of a header of version 2 follow its first 16."""
    signature, command, combination, length = FIXED.unpack(fixed)
    if signature != SIGNATURE:
        raise ProxyHeaderError("the header does not begin with the signature of version 2")
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"version and command {command:#04x} are unknown")
    if command == _PROXY and combination not in _COMBINATIONS:
        raise ProxyHeaderError(f"family and transport {combination:#04x} are unknown")
    return int(length)


def parse_binary(fixed: bytes, rest: bytes) -> ProxyHeader:
    """Take a header of version 2 apart: its first 16 bytes, and all that follow."""
    if len(rest) != binary_length(fixed):
        raise ProxyHeaderError("the header is not as long as it says")
    family = fixed[13] >> 4
    if fixed[12] == _LOCAL or not family:
        return ProxyHeader(2)  # the rest is to be ignored (2.2)
    source, destination, at = _binary_addresses(family, rest)
    return _with_extras(ProxyHeader(2, source, destination), fixed, rest, at)


def _text_address(kind: int, host: str, port: str) -> Address:
    if not port.isdigit() or len(port) > 5 or int(port) > 65535 or (port[0] == "0" and port != "0"):
        raise ProxyHeaderError("a port in the header is none")
    try:
        packed = socket.inet_pton(socket.AF_INET if kind == _INET else socket.AF_INET6, host)
    except (OSError, ValueError):
        raise ProxyHeaderError("an address in the header is none") from None
    return _ip_address(kind, packed, int(port))


def _ip_address(kind: int, packed: bytes, port: int) -> Address:
    if kind == _INET:
        return socket.inet_ntop(socket.AF_INET, packed), port
    return socket.inet_ntop(socket.AF_INET6, packed), port, 0, 0


def _binary_addresses(family: int, rest: bytes) -> tuple[Address, Address, int]:
    """Return both addresses, and where they end."""
    size = {_INET: 4, _INET6: 16, _UNIX: _UNIX_PATH_BYTES}[family]
    end = 2 * size + (0 if family == _UNIX else _PORTS.size)
    if len(rest) < end:
        raise ProxyHeaderError("the header ends inside its addresses")
    source, destination = rest[:size], rest[size : 2 * size]
    if family == _UNIX:
        return _unix_address(source), _unix_address(destination), end
    source_port, destination_port = _PORTS.unpack_from(rest, 2 * size)
    return _ip_address(family, source, source_port), _ip_address(family, destination, destination_port), end


def _unix_address(path: bytes) -> Address:
    """An abstract name begins with a NUL, and is bytes as from `accept()`."""
    if path.startswith(b"\0"):
        return path.rstrip(b"\0")
    return os.fsdecode(path.partition(b"\0")[0])


def _with_extras(header: ProxyHeader, fixed: bytes, rest: bytes, at: int) -> ProxyHeader:
    found: dict[int, bytes] = {}
    other = []
    for kind, value, start in _split(rest, at):
        if kind == _CRC32C:
            _check_sum(fixed, rest, start, value)
        elif kind in (_ALPN, _AUTHORITY, _UNIQUE_ID, _SSL, _NETNS):
            found[kind] = value
        elif kind != _NOOP:
            other.append((kind, value))
    return ProxyHeader(
        header.version,
        header.source,
        header.destination,
        alpn=found.get(_ALPN),
        authority=_text(found[_AUTHORITY]) if _AUTHORITY in found else None,
        unique_id=found.get(_UNIQUE_ID),
        ssl=_read_ssl(found[_SSL]) if _SSL in found else None,
        netns=_text(found[_NETNS]) if _NETNS in found else None,
        other=tuple(other),
    )


def _split(block: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """List type, value and the value's place of each TLV from `at` to the end."""
    while at < len(block):
        if len(block) - at < _TLV.size:
            raise ProxyHeaderError("the header ends inside a TLV")
        kind, length = _TLV.unpack_from(block, at)
        start = at + _TLV.size
        at = start + length
        if at > len(block):
            raise ProxyHeaderError("a TLV is longer than what holds it")
        yield kind, block[start:at], start


def _check_sum(fixed: bytes, rest: bytes, start: int, value: bytes) -> None:
    """Compare with the checksum of the whole header, in which the checksum itself is zero (2.2.3)."""
    if len(value) != 4 or int.from_bytes(value) != crc32c(fixed + rest[:start] + bytes(4) + rest[start + 4 :]):
        raise ProxyHeaderError("the checksum is wrong")


def _read_ssl(value: bytes) -> ProxySSL:
    if len(value) < _SSL_FIXED.size:
        raise ProxyHeaderError("the TLV about SSL is too short")
    client, verify = _SSL_FIXED.unpack_from(value)
    texts = {kind: _text(text) for kind, text, _ in _split(value, _SSL_FIXED.size)}
    certificate = bool(client & (_CLIENT_CERT_CONN | _CLIENT_CERT_SESS))
    return ProxySSL(
        encrypted=bool(client & _CLIENT_SSL),
        certificate=certificate,
        verified=certificate and verify == 0,
        version=texts.get(_SSL_VERSION, ""),
        common_name=texts.get(_SSL_CN, ""),
        cipher=texts.get(_SSL_CIPHER, ""),
        signature_algorithm=texts.get(_SSL_SIG_ALG, ""),
        key_algorithm=texts.get(_SSL_KEY_ALG, ""),
    )


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ProxyHeaderError("a text in the header is not UTF-8") from None
