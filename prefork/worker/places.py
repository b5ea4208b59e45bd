"""Where a listener is, in a form that two spellings of one place share, and in the words of `--bind`."""

from __future__ import annotations

import ipaddress
import os
import socket

from prefork.address import BindAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IP = (socket.AF_INET, socket.AF_INET6)
_ANY = ("", "0.0.0.0", "::")


def same_kind(family: int, type_: int, other_family: int, other_type: int) -> bool:
    """Say whether one socket may stand in for the other: IPv4 and IPv6 may."""
    families = family == other_family or (family in _IP and other_family in _IP)
    return families and type_ == other_type


def place_of(family: int, address: Any) -> tuple[str, int]:
    """Return host and port, or path and 0, of what `bind()` was given or `getsockname()` returned."""
    if family not in _IP:
        path = os.fsdecode(address)
        return (path if path.startswith("\0") else os.path.abspath(path)), 0
    host, port = address[:2]
    return ("*" if host in _ANY else _numeric(host, family)), port


def as_bind(bound: socket.socket, address: Any) -> str:
    """Write the address that a server asked for as it would be written for `--bind`."""
    datagrams = bound.type == socket.SOCK_DGRAM
    if bound.family not in _IP:
        path = os.fsdecode(address)
        return str(BindAddress("unixgram" if datagrams else "unix", path=path.replace("\0", "@", 1)))
    host, port = address[:2]
    return str(BindAddress("udp" if datagrams else "tcp", host=host or "", port=port))


def _numeric(host: str, family: int) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass  # a name
    try:
        return str(socket.getaddrinfo(host, None, family)[0][4][0])
    except OSError:
        return host
