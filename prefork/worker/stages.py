"""Gives servers the stages that their connections have to pass, TLS and PROXY header; or refuses those that have none.

A service that was meant to be encrypted, or to know its clients, must not run without, so a server that cannot have a
stage does not start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefork.errors import ApplicationError
from prefork.worker import reporting
from prefork.worker.assembly import is_pooled

if TYPE_CHECKING:
    import ssl

    from prefork.address import BindAddress
    from prefork.config.settings import Settings
    from prefork.system.sockets import Listener
    from prefork.worker.gate import Gate


def put_stages_before(
    server: Any, gate: Gate, listener: Listener, settings: Settings, context: ssl.SSLContext | None
) -> None:
    """Let the connections of a server pass what the settings demand of its listener. Raise ApplicationError."""
    address = _address_of(listener, settings)
    stages = wanted_stages(address, settings)
    if gate.datagrams:
        # Of an inherited socket only its owner knew that it would be one of datagrams.
        if address.tls or address.proxy:
            raise ApplicationError(f"{address} passes datagrams, and those have neither TLS nor a PROXY header")
    elif stages and not is_pooled(server):
        raise ApplicationError(without_stages(type(server).__qualname__, address, stages))
    elif stages:
        assert context is not None or "TLS" not in stages  # the settings demand a certificate
        _put(server, settings, context if "TLS" in stages else None, "the PROXY protocol" in stages)
    if not hasattr(server, "proxy_header"):
        server.proxy_header = _no_header


def wanted_stages(address: BindAddress, settings: Settings) -> list[str]:
    """Name what connections to this address have to pass."""
    if address.kind in ("udp", "unixgram"):
        return []
    wanted = {"TLS": settings.speaks_tls(address), "the PROXY protocol": settings.demands_proxy_header(address)}
    return [name for name, demanded in wanted.items() if demanded]


def without_stages(server: str, address: BindAddress, stages: list[str]) -> str:
    """Say that a server with a loop of its own cannot have these stages."""
    options = " and ".join("tls=off" if stage == "TLS" else "proxy=off" for stage in stages)
    return (
        f"{server} accepts with its own loop and cannot have {' or '.join(stages)}, which {address.place} demands; "
        f"serve its handler class instead, or give that listener {options}"
    )


def _no_header(request: object) -> None:
    """Stand in for the method of servers that receive PROXY headers, so that a handler need not know which it has."""


def _address_of(listener: Listener, settings: Settings) -> BindAddress:
    """Return what these settings say of a listener; it may have been bound for an earlier generation."""
    same_place = (address for address in settings.bind if address.place == listener.address.first.place)
    return next(same_place, listener.address)


def _put(server: Any, settings: Settings, context: ssl.SSLContext | None, proxies: bool) -> None:
    from prefork.serving.proxy import TrustedProxies  # nobody else needs these modules
    from prefork.serving.stages import StagesMixIn

    original = type(server)
    attributes = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "handshake_timeout": settings.handshake_timeout,
        "tls_context": context,
        "trusted_proxies": TrustedProxies(settings.trusted_proxies) if proxies else None,
        "report_refused": staticmethod(reporting.report_refused),
    }
    try:
        server.__class__ = type(original.__name__, (StagesMixIn, original), attributes)
    except TypeError as error:  # slots, or a metaclass of its own
        raise ApplicationError(f"{original.__qualname__} cannot have TLS or the PROXY protocol: {error}") from error
