"""The settings: every option of the server, declared once.

A field's name, type, bounds, default and `Option` are all there is. The flag `--drain-timeout`, the variable
PREFORK_DRAIN_TIMEOUT, the key `drain_timeout` in TOML, the help text and the table in the documentation follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from prefork.address import BindAddress
from prefork.config.cpus import usable_cpus
from prefork.config.values import (
    Size,
    read_admin,
    read_bind,
    read_group,
    read_name,
    read_network,
    read_protocol_name,
    read_target,
    read_text,
    read_umask,
    read_user,
    read_variable,
)

MOST_WORKERS = 1023
_WEEK = 7 * 24 * 3600.0

Group = Literal["Target", "Listeners", "TLS", "Proxies", "Workers", "Environment", "Reload and stop", "Operation"]


@dataclass(frozen=True, slots=True)
class Option:
    """What a field says about itself beyond its name, type and default."""

    group: Group
    help: str
    letter: str = ""
    """Of the short flag: `w` for `-w`."""
    flag: str = ""
    """The long flag where it is not simply the name."""
    metavar: str = ""
    auto: Callable[[], int] | None = None
    """What the word `auto` stands for."""
    read: Callable[[object], object] = read_text
    """How a text, or each one of several, is read."""
    adds_up: bool = False
    """Whether flags add to what the file says, name by name, instead of replacing all of it."""


Seconds = Annotated[float, Meta(ge=0, le=_WEEK)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server was told, complete and checked; see `prefork.config.load`."""

    target: Annotated[
        str,
        Option(
            "Target",
            "What to serve: a handler class, server class, server or factory.",
            metavar="MODULE:NAME",
            read=read_target,
        ),
    ] = ""
    handler: Annotated[
        str | None,
        Option(
            "Target", "The handler class for a server class that has none.", metavar="MODULE:NAME", read=read_target
        ),
    ] = None
    server: Annotated[
        Mapping[str, object],
        Option(
            "Target",
            "Set an attribute of the server: a Python literal, or @module:object. Repeatable.",
            flag="--set",
            metavar="NAME=VALUE",
            adds_up=True,
        ),
    ] = msgspec.field(default_factory=dict)

    bind: Annotated[
        tuple[BindAddress, ...],
        Option(
            "Listeners",
            "Where to listen: HOST:PORT, udp://HOST:PORT, unix:PATH, fd://N … Repeatable.",
            letter="b",
            metavar="ADDRESS",
            read=read_bind,
        ),
    ] = (BindAddress("tcp", host="127.0.0.1", port=9999),)
    backlog: Annotated[
        int,
        Meta(ge=1, le=2**31 - 1),
        Option("Listeners", "Connections that may wait to be accepted, for each listener."),
    ] = 2048

    tls_cert: Annotated[
        tuple[str, ...],
        Option("TLS", "Certificate and its chain (PEM): stream listeners speak TLS. Repeatable.", metavar="FILE"),
    ] = ()
    tls_key: Annotated[
        tuple[str, ...],
        Option(
            "TLS", "Private key of each tls_cert, in the same order, if not in its file. Repeatable.", metavar="FILE"
        ),
    ] = ()
    tls_verify: Annotated[
        Literal["none", "optional", "required"],
        Option("TLS", "Whether clients may or must show a certificate that tls_ca vouches for."),
    ] = "none"
    tls_ca: Annotated[
        str,
        Option("TLS", "The authorities (PEM) that vouch for certificates of clients.", metavar="FILE"),
    ] = ""
    tls_alpn: Annotated[
        tuple[str, ...],
        Option(
            "TLS", "A protocol to offer by ALPN, the best first. Repeatable.", metavar="NAME", read=read_protocol_name
        ),
    ] = ()
    tls_min_version: Annotated[
        Literal["1.2", "1.3"],
        Option("TLS", "The oldest version of TLS to speak."),
    ] = "1.2"
    tls_ciphers: Annotated[
        str,
        Option("TLS", "Ciphers of TLS 1.2, as OpenSSL lists them, instead of its own choice.", metavar="LIST"),
    ] = ""

    proxy_protocol: Annotated[
        Literal["off", "on"],
        Option("Proxies", "Demand a PROXY header, version 1 or 2, on stream listeners."),
    ] = "off"
    trusted_proxies: Annotated[
        tuple[str, ...],
        Option(
            "Proxies",
            "Who may send a PROXY header; everybody else is refused. Repeatable.",
            metavar="IP|NETWORK|unix",
            read=read_network,
        ),
    ] = ()
    handshake_timeout: Annotated[
        Seconds,
        Option("Proxies", "PROXY header and TLS handshake together may take this long; 0 is for ever."),
    ] = 10.0

    workers: Annotated[
        int,
        Meta(ge=1, le=MOST_WORKERS),
        Option("Workers", "Worker processes; auto is the CPUs this process may use.", letter="w", auto=usable_cpus),
    ] = msgspec.field(default_factory=usable_cpus)
    threads: Annotated[
        int,
        Meta(ge=1, le=4096),
        Option("Workers", "Connections that one worker serves at a time.", letter="t"),
    ] = 128
    limit_connections: Annotated[
        int,
        Meta(ge=0, le=2**31 - 1),
        Option("Workers", "Connections that the whole server has at a time; 0 is no limit."),
    ] = 0
    limit_per_peer: Annotated[
        int,
        Meta(ge=0, le=2**31 - 1),
        Option("Workers", "Connections that one client address has at a time; 0 is no limit."),
    ] = 0
    idle_timeout: Annotated[
        Seconds,
        Option("Workers", "A connection that is silent for this time is closed; 0 is never."),
    ] = 0.0
    preload: Annotated[
        Literal["auto", "always", "never"],
        Option("Workers", "Import the target once, before forking; auto does it where that is safe."),
    ] = "auto"
    boot_timeout: Annotated[
        float,
        Meta(ge=0.1, le=_WEEK),
        Option("Workers", "A worker that is not ready after this time is replaced."),
    ] = 60.0
    heartbeat_timeout: Annotated[
        float,
        Meta(ge=2, le=_WEEK),
        Option("Workers", "A worker that cannot be heard for this time is replaced."),
    ] = 30.0
    handler_timeout: Annotated[
        Seconds,
        Option("Workers", "A handler that serves one connection for longer is cut off; 0 is for ever."),
    ] = 0.0

    min_workers: Annotated[
        int,
        Meta(ge=0, le=MOST_WORKERS),
        Option("Workers", "Let the number of workers fall to this when there is little to do; 0 is workers."),
    ] = 0
    max_workers: Annotated[
        int,
        Meta(ge=0, le=MOST_WORKERS),
        Option("Workers", "Let the number of workers rise to this when they are busy; 0 is workers."),
    ] = 0
    max_requests: Annotated[
        int,
        Meta(ge=0, le=10**15),
        Option("Workers", "Replace a worker when it has served so many connections or datagrams; 0 is never."),
    ] = 0
    max_requests_jitter: Annotated[
        int,
        Meta(ge=0, le=10**15),
        Option("Workers", "Add up to this to max_requests, drawn anew for each worker."),
    ] = 0
    max_rss: Annotated[
        Size,
        Meta(ge=0),
        Option("Workers", "Replace a worker whose resident memory stays above this, such as 256M; 0 is never."),
    ] = Size(0)
    max_age: Annotated[
        float,
        Meta(ge=0, le=52 * _WEEK),
        Option("Workers", "Replace a worker when it has served for this time; 0 is never."),
    ] = 0.0

    config: Annotated[
        str,
        Option(
            "Environment",
            "The configuration file, if not prefork.toml or pyproject.toml here.",
            letter="c",
            metavar="FILE",
        ),
    ] = ""
    chdir: Annotated[
        str, Option("Environment", "The directory to work in; relative paths start there.", metavar="DIR")
    ] = "."
    pythonpath: Annotated[
        tuple[str, ...],
        Option("Environment", "A directory to import from, before all others. Repeatable.", metavar="DIR"),
    ] = ()
    env: Annotated[
        tuple[str, ...],
        Option(
            "Environment",
            "An environment variable for the workers. Repeatable.",
            metavar="NAME=VALUE",
            read=read_variable,
            adds_up=True,
        ),
    ] = ()
    user: Annotated[
        str | None,
        Option(
            "Environment",
            "The user, by name or number, that workers run as; the master stays root.",
            metavar="USER",
            read=read_user,
        ),
    ] = None
    group: Annotated[
        str | None,
        Option("Environment", "The group of the workers, if not that of their user.", metavar="GROUP", read=read_group),
    ] = None
    umask: Annotated[
        str | None,
        Option("Environment", "The umask of the workers, in octal.", metavar="MASK", read=read_umask),
    ] = None

    canary_time: Annotated[
        Seconds,
        Option("Reload and stop", "How long the first worker of new code must serve before others follow."),
    ] = 1.0
    surge: Annotated[
        int,
        Meta(ge=1, le=MOST_WORKERS),
        Option("Reload and stop", "Extra workers that a reload may have at a time."),
    ] = 1
    drain_delay: Annotated[
        Seconds,
        Option("Reload and stop", "On a stop, go on accepting for this time while announced as not ready."),
    ] = 0.0
    drain_timeout: Annotated[
        Seconds,
        Option("Reload and stop", "Open connections may take this long to end before they are cut."),
    ] = 30.0
    kill_timeout: Annotated[
        float,
        Meta(ge=0.1, le=_WEEK),
        Option("Reload and stop", "A worker told to leave at once is killed after this time."),
    ] = 5.0
    reload: Annotated[
        bool,
        Option("Reload and stop", "For development: reload when a source file changes, with a canary_time of 0."),
    ] = False

    name: Annotated[
        str,
        Option("Operation", "What to call this server; the target's module if not given.", read=read_name),
    ] = ""
    control: Annotated[
        str,
        Option("Operation", "Where `prefork status` and others reach it.", metavar="auto|off|PATH"),
    ] = "auto"
    pidfile: Annotated[
        str,
        Option("Operation", "Write the pid of the master to this file, locked while it runs.", metavar="FILE"),
    ] = ""
    admin: Annotated[
        str,
        Option(
            "Operation",
            "Where to serve metrics, health and the status page over HTTP.",
            metavar="off|ADDRESS",
            read=read_admin,
        ),
    ] = "off"
    agent: Annotated[
        str,
        Option("Operation", "Where to answer HAProxy's agent checks.", metavar="off|ADDRESS", read=read_admin),
    ] = "off"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option("Operation", "The least important records to log."),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Option("Operation", "How each record is written: a line of text, or a JSON object on a line."),
    ] = "text"
    log_file: Annotated[
        str,
        Option("Operation", "Where to log; - is standard error.", metavar="FILE"),
    ] = "-"
    access_log: Annotated[
        str,
        Option("Operation", "Where each connection is recorded when it ends; - is the log.", metavar="off|-|FILE"),
    ] = "off"

    def speaks_tls(self, address: BindAddress) -> bool:
        """Say whether a stream listener at this address speaks TLS."""
        return bool(self.tls_cert) if address.tls is None else address.tls

    def demands_proxy_header(self, address: BindAddress) -> bool:
        """Say whether connections to a stream listener at this address begin with a PROXY header."""
        return self.proxy_protocol == "on" if address.proxy is None else address.proxy
