"""How the text of a value is read: each function takes what was written and raises ValueError saying what it must be.

A message continues the name of the option ("must be a whole number, not 'four'"); after "; " comes the way out.
"""

import ast
import grp
import ipaddress
import pwd
import re
from collections.abc import Callable

from prefork.address import BindAddress, parse_bind
from prefork.errors import nearest_name

_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|h|d|)", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_HIGHEST_ID = 2**32 - 2  # the next one means "leave as it is" to the kernel
_OURS = ("PREFORK_WORKER_SLOT", "PREFORK_GENERATION")


class Size(int):
    """A number of bytes."""


def read_switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in _SWITCHES:
        return _SWITCHES[raw.strip().lower()]
    raise ValueError(f"must be true or false, not {raw!r}")


def read_number(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", raw, re.ASCII):
        return int(raw)
    raise ValueError(f"must be a whole number, not {raw!r}")


def read_duration(raw: object) -> float:
    """Read 30, 0.5, "30s", "2m", "2h", "1d" or "500ms" as seconds."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool) and raw == raw:
        return float(raw)
    if isinstance(raw, str) and (match := _DURATION.fullmatch(raw.strip())):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError(f"must be a time such as 30, 0.5, 500ms or 2m, not {raw!r}")


def read_size(raw: object) -> Size:
    """Read 1048576, "256M", "1.5 GiB" or "512kB" as bytes; the units are powers of 1024."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return Size(raw)
    if isinstance(raw, str) and (match := _SIZE.fullmatch(raw.strip())):
        return Size(float(match[1]) * _SIZES[match[2].upper()])
    raise ValueError(f"must be a size such as 256M, 1G or a number of bytes, not {raw!r}")


def read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"must be text, not {raw!r}")
    if any(ord(character) < 32 or ord(character) == 127 for character in raw):
        raise ValueError(f"must not contain control characters, as {raw!r} does")
    return raw


def read_name(raw: object) -> str:
    name = read_text(raw)
    if len(name) > 64 or not name.isprintable() or " " in name:
        raise ValueError(f"must be a short word without spaces, not {name!r}")
    return name


def read_target(raw: object) -> str:
    """Check the shape alone; whether it can be imported is another question."""
    text = read_text(raw).strip()
    module, _, name = text.partition(":")
    if module.endswith(".py") or "/" in module:
        module = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"must name a module, not the file {text!r}; write {module or 'module'}:{name or 'Handler'}")
    if not module or not name:
        before, _, last = text.rpartition(".")
        # By custom a class is written with a capital: `app.Handler` is one of a module, `http.server` is a module.
        example = f"{before}:{last}" if before and last[:1].isupper() else f"{module or 'app'}:Handler"
        raise ValueError(f"must be MODULE:NAME, not {text!r}; write for example {example}")
    return text


def read_bind(raw: object) -> BindAddress:
    return raw if isinstance(raw, BindAddress) else parse_bind(read_text(raw))


def read_admin(raw: object) -> str:
    """Read `off` or a stream address; one without a host is on the loopback interface."""
    text = read_text(raw).strip()
    if text == "off":
        return text
    port = text.removeprefix("tcp://")
    address = parse_bind(f"tcp://127.0.0.1{port}" if port.startswith(":") else text)
    if address.kind not in ("tcp", "unix"):
        raise ValueError(f"must be off, tcp://HOST:PORT or unix:PATH, not {text!r}")
    return str(address)


def read_variable(raw: object) -> str:
    text = raw if isinstance(raw, str) else ""  # a value may hold any character but NUL
    name, equals, _ = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(name) or "\0" in text:
        raise ValueError(f"must be NAME=VALUE, not {raw!r}")
    if name in _OURS:
        raise ValueError(f"must not set {name}; every worker is given its own")
    return text


def read_network(raw: object) -> str:
    """Read an IP address, a network or `unix`; IPv4 in the clothes of IPv6 (::ffff:10.0.0.1) becomes IPv4."""
    text = read_text(raw).strip()
    if text == "unix":
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"must be an IP address, a network or unix, not {text!r}{_network_hint(text)}") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    return str(network)


def _network_hint(text: str) -> str:
    try:
        return f"; write {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return "; write for example 10.0.0.1 or 10.0.0.0/8"


def read_protocol_name(raw: object) -> str:
    name = read_text(raw)
    if not 0 < len(name.encode()) <= 255:
        raise ValueError(f"must be the name of a protocol, 255 bytes at most, not {name!r}")
    return name


def read_user(raw: object) -> str:
    return _read_account(raw, "user", lambda: [entry.pw_name for entry in pwd.getpwall()])


def read_group(raw: object) -> str:
    return _read_account(raw, "group", lambda: [entry.gr_name for entry in grp.getgrall()])


def _read_account(raw: object, kind: str, all_names: Callable[[], list[str]]) -> str:
    """Read a name of this machine, or a number, which need not have a name."""
    text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else read_text(raw)
    if text.isascii() and text.isdigit():
        if int(text) > _HIGHEST_ID:
            raise ValueError(f"must be at most {_HIGHEST_ID}, not {text}")
        return str(int(text))
    try:
        pwd.getpwnam(text) if kind == "user" else grp.getgrnam(text)
    except KeyError:
        near = nearest_name(text, all_names())
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"must be a {kind} of this machine, not {text!r}{hint}") from None
    return text


def read_umask(raw: object) -> str:
    text = raw if isinstance(raw, str) else ""  # a TOML number would be read as decimal
    if not 1 <= len(text) <= 4 or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise ValueError(f"must be octal text such as '027', not {raw!r}")
    return f"{int(text, 8):04o}"


def read_attribute(raw: object) -> tuple[str, str]:
    """Read the `name=value` of a `--set`; the value stays text, a Python literal or `@module:object`."""
    name, equals, value = read_text(raw).partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name.isidentifier():
        raise ValueError(f"must be NAME=VALUE, not {raw!r}")
    if value.startswith("@"):
        read_target(value[1:])
        return name, value
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        hint = f"@{value}" if ":" in value else repr(value)
        raise ValueError(
            f"{name} must be a Python literal or @module:object, not {value}; write {name}={hint}"
        ) from None
    return name, value


def show_duration(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def show_size(size: int) -> str:
    for unit, factor in reversed(_SIZES.items()):
        if unit and size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(int(size))
