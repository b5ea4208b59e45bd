"""Addresses: the text of `--bind` and what it means, and how a client's address is written in logs.

A `BindAddress` is what the operator asked for, before anything is resolved or bound. Its text parses back to an equal
value (unless it is one of several sockets of a place), and equal values are the same listener across a reload; so
everything that means the same is stored the same (`*`, the empty host and 0.0.0.0; two spellings of one IPv6 address).
"""

import functools
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

from prefork.errors import nearest_name

Kind = Literal["tcp", "udp", "unix", "unixgram", "fd", "systemd"]

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
_FORMS = {
    "tcp": "tcp://HOST:PORT",
    "udp": "udp://HOST:PORT",
    "unix": "unix:PATH or unix:@NAME",
    "unixgram": "unixgram:PATH or unixgram:@NAME",
    "fd": "fd://N",
    "systemd": "systemd: or systemd:NAME",
}
_QUERY_KEYS = {  # which per-listener options make sense for which kind
    "tcp": ("backlog", "ipv6only", "keepalive", "user_timeout", "nodelay", "tls", "proxy", "sockets"),
    "udp": ("ipv6only", "sockets"),
    "unix": ("backlog", "mode", "owner", "group", "tls", "proxy"),
    "unixgram": ("mode", "owner", "group"),
    "fd": ("tls", "proxy"),
    "systemd": ("tls", "proxy"),
}
_ALL_QUERY_KEYS = (
    *("backlog", "mode", "owner", "group", "ipv6only"),
    *("keepalive", "user_timeout", "nodelay", "tls", "proxy", "sockets"),
)
MOST_PATH_BYTES = 107  # unix(7): sun_path holds 108 bytes with its NUL, or with the NUL before an abstract name
MOST_SOCKETS = 256
_LONGEST_PEER = 200


@dataclass(frozen=True, slots=True)
class BindAddress:
    """One `--bind`: what kind of listener, where, and the options of this listener alone (None = not given)."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""
    """Of a Unix socket; an abstract name starts with `@`."""
    fd: int = -1
    name: str = ""
    """Of a systemd socket (`FileDescriptorName=`); "" means all that systemd passed."""
    backlog: int | None = None
    mode: int | None = None
    owner: str | None = None
    group: str | None = None
    ipv6only: bool | None = None
    keepalive: int | None = None
    """Seconds after which a peer that does not answer is given up, although nothing is sent."""
    user_timeout: int | None = None
    """Seconds after which a peer that does not acknowledge what was sent is given up."""
    nodelay: bool | None = None
    tls: bool | None = None
    proxy: bool | None = None
    sockets: int | None = None
    """How many sockets share the place (SO_REUSEPORT): the kernel gives each client's port one of them."""
    member: int = 0
    """Which one of them this is. Nobody writes it: see `members`."""

    def __str__(self) -> str:
        return self.place + self._query()

    @property
    def place(self) -> str:
        """The text without its options: two listeners cannot have the same place."""
        match self.kind:
            case "tcp" | "udp":
                return f"{self.kind}://{_bracketed(self.host)}:{self.port}{self.suffix}"
            case "unix" | "unixgram":
                return f"{self.kind}:{_escaped_path(self.path)}"
            case "fd":
                return f"fd://{self.fd}"
            case "systemd":
                return f"systemd:{self.name}"

    @property
    def suffix(self) -> str:
        """What tells the sockets of one place apart: `#2` for the second, nothing for the first or only one."""
        return f"#{self.member + 1}" if self.member else ""

    @property
    def first(self) -> "BindAddress":
        """The address of the first socket of its place, which names all of them."""
        return replace(self, member=0)

    def members(self) -> list["BindAddress"]:
        """Return the address of each socket that is to be bound there."""
        return [replace(self, member=member) for member in range(self.sockets or 1)]

    def has_same_socket(self, other: "BindAddress") -> bool:
        """Say whether one socket will do for both: they may differ in how its connections are served."""
        return replace(self, tls=None, proxy=None) == replace(other, tls=None, proxy=None)

    def _query(self) -> str:
        given = {
            "backlog": None if self.backlog is None else str(self.backlog),
            "mode": None if self.mode is None else f"{self.mode:04o}",
            "owner": None if self.owner is None else quote(self.owner),
            "group": None if self.group is None else quote(self.group),
            "ipv6only": _switch(self.ipv6only),
            "keepalive": None if self.keepalive is None else str(self.keepalive),
            "user_timeout": None if self.user_timeout is None else str(self.user_timeout),
            "nodelay": _switch(self.nodelay),
            "tls": _switch(self.tls),
            "proxy": _switch(self.proxy),
            "sockets": None if self.sockets is None else str(self.sockets),
        }
        text = "&".join(f"{key}={value}" for key, value in given.items() if value is not None)
        return f"?{text}" if text else ""


def parse_bind(text: str) -> BindAddress:
    """Read the text of a `--bind`; raise ValueError that says what is wrong and what would be right."""
    place, mark, query = text.partition("?")
    if not place:
        raise ValueError("an address is missing; write for example 127.0.0.1:9999 or unix:/run/app.sock")
    kind, rest = _split_kind(place)
    match kind:
        case "tcp" | "udp":
            host, port = _read_host_and_port(kind, rest)
            address = BindAddress(kind, host=host, port=port)
        case "unix" | "unixgram":
            address = BindAddress(kind, path=_read_path(kind, rest))
        case "fd":
            address = BindAddress(kind, fd=_read_number("a descriptor", rest, 0, 2**31 - 1))
        case "systemd":
            address = BindAddress(kind, name=_read_systemd_name(rest))
    return _with_options(address, query) if mark else address


def format_peer(client_address: object) -> str:
    """Write a client's address for a log line: one line, never an exception, whatever the object is."""
    # Nearly every one is like this, and is written for each connection: so first, and without the care for the others.
    if type(client_address) is tuple and len(client_address) == 2:
        host, port = client_address
        if type(host) is str and type(port) is int and len(host) < 16 and ":" not in host and host.isprintable():
            return f"{host}:{port}"
    try:
        text = _peer_text(client_address)
    except Exception:  # a stranger's __str__ may raise anything, and a log line must not
        text = f"<{type(client_address).__name__}>"
    return _printable(text[:_LONGEST_PEER])


def _split_kind(place: str) -> tuple[Kind, str]:
    scheme, mark, rest = place.partition("://")
    if mark and scheme in ("tcp", "udp", "fd"):
        return _KINDS[scheme], rest
    word, colon, tail = place.partition(":")
    if colon and word in ("unix", "unixgram", "systemd"):
        return _KINDS[word], tail
    if colon and word in _FORMS:
        raise ValueError(f"{place!r} is not an address; write {_FORMS[word]}")
    if mark:
        near = nearest_name(scheme, _FORMS)
        hint = _FORMS[near] if near else ", ".join(_FORMS.values())
        raise ValueError(f"unknown kind of address {scheme!r}; write {hint}")
    if place.startswith(("/", "./", "@")):
        raise ValueError(f"{place!r} has no kind; write unix:{place} or unixgram:{place}")
    return "tcp", place


def _read_host_and_port(kind: str, rest: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or not tail.startswith(":"):
            raise ValueError(f"{rest!r} is not an address; write {kind}://[::1]:PORT")
        return _read_ipv6(host), _read_number("a port", tail[1:], 0, 65535)
    host, colon, port = rest.rpartition(":")
    if not colon:
        example = f"127.0.0.1:{rest}" if rest.isdecimal() else f"{rest}:PORT"
        raise ValueError(f"{rest!r} has no port; write {kind}://{example}")
    if ":" in host:
        raise ValueError(f"{rest!r} is ambiguous; write an IPv6 address in brackets: {kind}://[{host}]:{port}")
    return _read_host(host), _read_number("a port", port, 0, 65535)


def _read_ipv6(host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"[{host}] is not an IPv6 address; write for example [::] or [::1]") from None


def _read_host(host: str) -> str:
    if host in ("", "*"):
        return "0.0.0.0"
    if not host.replace(".", "").isdecimal():
        if not host.isprintable() or set(host) & set(" /\\@#%[]"):
            raise ValueError(f"{host!r} is not a host; write a name or an address such as 127.0.0.1")
        return host.lower()
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f"{host!r} is not an IPv4 address; write four numbers such as 127.0.0.1") from None


def _read_number(what: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or not least <= int(text) <= most:
        raise ValueError(f"{text!r} is not {what}; write a number from {least} to {most}")
    return int(text)


def _read_path(kind: str, rest: str) -> str:
    if rest.startswith("//"):
        # Two slashes announce a host in a URL; three, as many tools write it, an empty host and an absolute path.
        if not rest.startswith("///"):
            raise ValueError(f"{kind}:{rest} names a host; write {kind}:{rest[2:]} or {kind}:/{rest[2:]}")
        rest = rest[2:]
    path = unquote(rest, errors="surrogateescape")
    if path in ("", "@"):
        raise ValueError(f"a path is missing; write {_FORMS[kind]}")
    if "\0" in path:
        raise ValueError("a path cannot contain a NUL character")
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise ValueError(f"{path} is longer than the {MOST_PATH_BYTES} bytes of a socket; use a shorter path")
    return path


def _read_systemd_name(rest: str) -> str:
    if not rest.isascii() or not rest.isprintable() or ":" in rest or "/" in rest or len(rest) > 255:
        raise ValueError(f"{rest!r} cannot be the name of a systemd socket; write systemd: or systemd:NAME")
    return rest


def _with_options(address: BindAddress, query: str) -> BindAddress:
    readers: dict[str, Callable[[str], object]] = {
        "backlog": lambda value: _read_number("a backlog", value, 1, 2**31 - 1),
        "mode": _read_mode,
        **{key: functools.partial(_read_switch, key) for key in ("ipv6only", "nodelay", "tls", "proxy")},
        "keepalive": lambda value: _read_number("a number of seconds", value, 2, 32767),
        "user_timeout": lambda value: _read_number("a number of seconds", value, 1, 32767),
        "sockets": lambda value: _read_number("a number of sockets", value, 2, MOST_SOCKETS),
    }
    given: dict[str, Any] = {key: readers.get(key, str)(value) for key, value in _split_query(address, query).items()}
    return replace(address, **given)


def _split_query(address: BindAddress, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        _check_key(address, key)
        if not equals or not value:
            raise ValueError(f"the option {key} has no value; write {key}=VALUE")
        if key in options:
            raise ValueError(f"the option {key} is given twice; keep one")
        options[key] = unquote(value)
    return options


def _check_key(address: BindAddress, key: str) -> None:
    allowed = _QUERY_KEYS[address.kind]
    if address.path.startswith("@"):
        # An abstract socket has no file to own.
        allowed = tuple(name for name in allowed if name not in ("mode", "owner", "group"))
    if address.host == "0.0.0.0" or address.host.replace(".", "").isdecimal():
        allowed = tuple(name for name in allowed if name != "ipv6only")
    if key in allowed:
        return
    choices = f"it can have {', '.join(allowed)}" if allowed else "it has no options"
    if key in _ALL_QUERY_KEYS:
        raise ValueError(f"{address.place} cannot have the option {key}; {choices}")
    near = nearest_name(key, allowed)
    raise ValueError(f"unknown option {key!r} of {address.place}; {f'did you mean {near}?' if near else choices}")


def _read_mode(value: str) -> int:
    if not 3 <= len(value) <= 4 or set(value) - set("01234567") or int(value, 8) > 0o777:
        raise ValueError(f"{value!r} is not a mode; write it in octal, for example 0660")
    return int(value, 8)


def _read_switch(key: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(f"{key} must be on or off, not {value!r}")
    return value == "on"


def _switch(value: bool | None) -> str | None:
    return None if value is None else ("on" if value else "off")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _escaped_path(path: str) -> str:
    """Escape what the parser would read otherwise, and what would break a line."""
    return "".join(
        character if character not in "%?" and (character.isprintable() or "\udc80" <= character <= "\udcff")
        else quote(character, safe="", errors="surrogateescape")
        for character in path
    )  # fmt: skip


def _peer_text(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"{_bracketed(host)}:{port}"
        case None | "" | b"":
            return "unix"
        case bytes():
            address = os.fsdecode(address)
    text = str(address)
    return f"@{text[1:]}" if text.startswith("\0") else text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
