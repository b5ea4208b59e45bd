"""What a proxy sends first: headers of the PROXY protocol, version 2, put together by hand."""

import ipaddress
import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY, LOCAL = 0x21, 0x20
TCP4, TCP6, UNIX = 0x11, 0x21, 0x31


def binary(rest: bytes, command: int = PROXY, family: int = TCP4) -> bytes:
    """A header of version 2 around addresses and TLVs."""
    return struct.pack("!12sBBH", SIGNATURE, command, family, len(rest)) + rest


def ip_addresses(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """The addresses of a header, both IPv4 or both IPv6."""
    packed = b"".join(ipaddress.ip_address(host).packed for host, _ in (source, destination))
    return packed + struct.pack("!HH", source[1], destination[1])


def tlv(kind: int, value: bytes) -> bytes:
    """One type-length-value."""
    return struct.pack("!BH", kind, len(value)) + value


def unix_addresses(source: bytes, destination: bytes) -> bytes:
    """The addresses of a header for Unix sockets."""
    return source.ljust(108, b"\0") + destination.ljust(108, b"\0")


CLIENT = ("203.0.113.7", 4242)
SERVICE = ("198.51.100.1", 443)
ADDRESSES = ip_addresses(CLIENT, SERVICE)
TEXT_HEADER = b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n"
BINARY_HEADER = binary(ADDRESSES)


def drip(connection: socket.socket, data: bytes) -> None:
    """Send every byte in a segment of its own."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    for index in range(len(data)):
        connection.sendall(data[index : index + 1])
