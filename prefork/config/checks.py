"""What single values cannot tell: whether the settings make sense together, and on this machine."""

import ipaddress
import os
from collections import Counter
from collections.abc import Iterator

from prefork.address import MOST_PATH_BYTES, BindAddress, parse_bind
from prefork.config.settings import Settings

_OF_TLS = ("tls_key", "tls_verify", "tls_ca", "tls_alpn", "tls_ciphers")
_NOT_GIVEN: tuple[object, ...] = ((), "", "none")

Finding = tuple[str, str, str]
"""The option at fault, what is wrong with it, and the way out."""


def find_contradictions(settings: Settings) -> Iterator[Finding]:
    """List what makes it impossible to run with these settings."""
    yield from _check_places(settings)
    yield from _check_addresses(settings)
    yield from _check_tls(settings)
    yield from _check_proxies(settings)
    yield from _check_workers(settings)
    if settings.reload and not _installed("watchfiles"):
        yield "reload", "needs the package watchfiles", "pip install 'prefork[reload]'"


def find_doubts(settings: Settings) -> Iterator[str]:
    """List what will run, but probably not as intended."""
    for directory in settings.pythonpath:
        if not os.path.exists(directory):
            yield f"pythonpath: {directory} does not exist; nothing will be imported from there"
    if settings.tls_ca and settings.tls_verify == "none":
        yield "tls_ca: not used while tls_verify is none; no client is asked for a certificate"
    yield from _doubts_about_proxies(settings)
    for name in ("admin", "agent"):
        text = getattr(settings, name)
        if text != "off" and not _is_local(parse_bind(text)):
            yield f"{name}: whoever reaches {text} can see what this server does; keep it to a network you trust"


def _doubts_about_proxies(settings: Settings) -> Iterator[str]:
    if not settings.trusted_proxies:
        return
    if not _demands_headers(settings):
        yield "trusted_proxies: not used while proxy_protocol is off; no listener expects a PROXY header"
    trusted = {"unix" if text == "unix" else "tcp" for text in settings.trusted_proxies}
    for address in settings.bind:
        # What kind of socket is passed is not known.
        if address.kind in ("unix", "tcp") and address.kind not in trusted and settings.demands_proxy_header(address):
            missing = "unix is not among them" if address.kind == "unix" else "no IP address is among them"
            yield f"trusted_proxies: {address.place} serves nobody: {missing}; add it, or say proxy=off there"


def _check_places(settings: Settings) -> Iterator[Finding]:
    if not os.path.isdir(settings.chdir):
        yield "chdir", f"{settings.chdir} is not a directory", "create it, or name another"
    if settings.control not in ("auto", "off") and len(os.fsencode(settings.control)) > MOST_PATH_BYTES:
        yield (
            "control",
            f"{settings.control} is longer than the {MOST_PATH_BYTES} bytes of a socket",
            "use a shorter path",
        )


def _check_workers(settings: Settings) -> Iterator[Finding]:
    workers = settings.workers
    least, most = settings.min_workers or workers, settings.max_workers or workers
    if settings.min_workers and settings.max_workers and least > most:
        yield "min_workers", f"must not be above max_workers, as {least} is above {most}", "raise max_workers"
    elif not least <= workers <= most:
        yield "workers", f"must be from {least} to {most} (min_workers to max_workers), not {workers}", ""
    if settings.max_requests_jitter and not settings.max_requests:
        yield "max_requests_jitter", "does nothing without max_requests", "set max_requests too"


def _check_addresses(settings: Settings) -> Iterator[Finding]:
    if not settings.bind:
        yield "bind", "must name at least one address", ""
    for address in settings.bind:
        if len(os.fsencode(address.path)) > MOST_PATH_BYTES:
            yield "bind", f"{address.path} is longer than the {MOST_PATH_BYTES} bytes of a socket", "shorten it"
    for place, times in Counter(address.place for address in settings.bind).items():
        if times > 1:
            yield "bind", f"{place} is given {times} times", "keep one"
    taken = {address.place: "bind" for address in settings.bind}
    for name in ("admin", "agent"):
        text = getattr(settings, name)
        if text == "off" or text.endswith(":0"):  # of a port 0 the kernel makes another each time
            continue
        place = parse_bind(text).place
        if (other := taken.setdefault(place, name)) != name:
            yield name, f"{place} is also given as {other}", "choose another"


def _check_tls(settings: Settings) -> Iterator[Finding]:
    for name in _OF_TLS:
        if getattr(settings, name) not in _NOT_GIVEN and not settings.tls_cert:
            yield name, "is given without a certificate, so nothing would be encrypted", "give tls_cert"
    for name, files in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key), ("tls_ca", (settings.tls_ca,))):
        for file in files:
            if file and not os.path.isfile(file):
                yield name, f"{file} is not a file", "name one that exists"
    certificates, keys = len(settings.tls_cert), len(settings.tls_key)
    if settings.tls_cert and keys not in (0, certificates):
        yield "tls_key", f"is given {keys} times, tls_cert {certificates} times", "give one key for each certificate"
    if settings.tls_cert and settings.tls_verify != "none" and not settings.tls_ca:
        yield (
            "tls_verify",
            f"is {settings.tls_verify}, and nobody can vouch for a client",
            "name the authorities: tls_ca",
        )
    for address in settings.bind:
        if address.tls and not settings.tls_cert:
            yield "bind", f"{address} needs a certificate", "give tls_cert"


def _check_proxies(settings: Settings) -> Iterator[Finding]:
    if _demands_headers(settings) and not settings.trusted_proxies:
        name = "proxy_protocol" if settings.proxy_protocol == "on" else "bind"
        yield name, "proxies are expected, and none is trusted", "name them: trusted_proxies"


def _demands_headers(settings: Settings) -> bool:
    return settings.proxy_protocol == "on" or any(address.proxy for address in settings.bind)


def _is_local(address: BindAddress) -> bool:
    if address.kind == "unix" or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _installed(package: str) -> bool:
    import importlib.util  # slow to import, and rarely needed

    return importlib.util.find_spec(package) is not None
