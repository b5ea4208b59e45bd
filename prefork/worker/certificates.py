"""The TLS of a generation: made by its mold, so that the workers forked from it take up each other's sessions.

The keys that protect session tickets are made with the context and inherited through the fork; a reload makes new ones.
"""

from __future__ import annotations

import os
import ssl
import stat
import sys
import time
from _ssl import _test_decode_cert  # type: ignore[attr-defined]  # nothing public reads a certificate from a file
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefork.errors import ApplicationError
from prefork.ipc.messages import Certificate, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from prefork.config.settings import Settings

_MOST_NAMES = 100  # that are told of a certificate
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TLS:
    """The context of all connections, and what there is to say about its certificates."""

    context: ssl.SSLContext
    certificates: list[Certificate]
    warnings: list[str]


def load_tls(settings: Settings) -> TLS:
    """Read the certificates, of which there must be one, and their keys. Raise ApplicationError."""
    keys: Sequence[str | None] = settings.tls_key or (None,) * len(settings.tls_cert)
    certificates, contexts, warnings = [], [], []
    for file, key in zip(settings.tls_cert, keys, strict=True):
        found = _read_certificate(file)
        certificates.append(_describe(file, found))
        contexts.append(_make_context(settings, file, key))
        warnings += [*_doubts(file, found), *_doubts_about_key(file, key)]
    if len(contexts) > 1:
        contexts[0].sni_callback = _Chooser(certificates, contexts).choose
        _say_nothing_of_unreadable_names()
    return TLS(contexts[0], certificates, warnings)


def _read_certificate(file: str) -> dict[str, Any]:
    try:
        open(file, "rb").close()  # tells in plain words why it cannot be read
        return dict(_test_decode_cert(file))
    except (OSError, ValueError) as error:
        raise ApplicationError(f"cannot use tls_cert {file}: {_what(error, 'it holds no PEM certificate')}") from error


def _describe(file: str, found: dict[str, Any]) -> Certificate:
    names = [value for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    common = [value for part in found["subject"] for kind, value in part if kind == "commonName"]
    return Certificate(shorten(file), (names or common)[:_MOST_NAMES], ssl.cert_time_to_seconds(found["notAfter"]))


def _make_context(settings: Settings, file: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION  # of TLS 1.2: it costs the server more than the client
    if settings.tls_ciphers:
        try:
            context.set_ciphers(settings.tls_ciphers)
        except ssl.SSLError as error:
            problem = (
                f"cannot use tls_ciphers {settings.tls_ciphers}: OpenSSL knows none of them; see `openssl ciphers`"
            )
            raise ApplicationError(problem) from error
    _load_key(context, file, key)
    if settings.tls_ca and settings.tls_verify != "none":
        try:
            context.load_verify_locations(settings.tls_ca)
        except OSError as error:
            what = _what(error, "it holds no PEM certificate")
            raise ApplicationError(f"cannot use tls_ca {settings.tls_ca}: {what}") from error
    context.verify_mode = _VERIFY[settings.tls_verify]
    if settings.tls_alpn:
        context.set_alpn_protocols(settings.tls_alpn)
    return context


class _Encrypted(Exception):
    pass


def _load_key(context: ssl.SSLContext, file: str, key: str | None) -> None:
    def ask_passphrase() -> str:
        raise _Encrypted  # OpenSSL would ask at the terminal

    option = "tls_cert" if key is None else "tls_key"
    try:
        context.load_cert_chain(file, key, ask_passphrase)
    except _Encrypted as error:
        way_out = f"nobody is there to type its passphrase; decrypt it: openssl pkey -in {key or file} -out NEW"
        raise ApplicationError(f"cannot use {option} {key or file}: the key is encrypted, and {way_out}") from error
    except OSError as error:
        missing = "it holds no PEM private key" + ("; give its file as tls_key" if key is None else "")
        raise ApplicationError(f"cannot use {option} {key or file}: {_what(error, missing, file)}") from error


def _what(error: Exception, missing: str, certificate: str = "") -> str:
    """Say what is wrong with a file. OpenSSL has reasons, the system has errors."""
    if not isinstance(error, ssl.SSLError):
        return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    reason: str | None = getattr(error, "reason", None)
    match reason:
        case "KEY_VALUES_MISMATCH" | "KEY_TYPE_MISMATCH" | "NO_CERTIFICATE_ASSIGNED":
            return f"the key is not that of the certificate {certificate}; keys come in the order of certificates"
        case None | "NO_START_LINE" | "NO_CERTIFICATE_OR_CRL_FOUND" | "UNSUPPORTED":
            return missing
    return reason.replace("_", " ").lower()


def _doubts(file: str, found: dict[str, Any]) -> Iterator[str]:
    begin, end = (ssl.cert_time_to_seconds(found[name]) for name in ("notBefore", "notAfter"))
    if end < time.time():
        yield f"tls_cert: {file} expired on {_date(end)}; clients will refuse it: renew it, then reload"
    elif begin > time.time():
        yield f"tls_cert: {file} is not valid before {_date(begin)}; clients will refuse it until then"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _doubts_about_key(file: str, key: str | None) -> Iterator[str]:
    holder = key or file
    if os.stat(holder).st_mode & stat.S_IROTH:
        option = "tls_cert" if key is None else "tls_key"
        yield f"{option}: the private key in {holder} can be read by everybody; chmod o-r {holder}"


class _Chooser:
    """Chooses the certificate for the host that a client names; the first one if none fits better."""

    def __init__(self, certificates: Sequence[Certificate], contexts: Sequence[ssl.SSLContext]) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        for certificate, context in zip(certificates, contexts, strict=True):
            for name in certificate.names:
                self._contexts.setdefault(name.lower(), context)

    def choose(self, connection: Any, host: Any, _: ssl.SSLContext) -> None:
        """Called in the middle of a handshake; the host is None if the client named none."""
        name = str(host or "").lower()
        # RFC 9525, 6.3: a wildcard stands for one label.
        chosen = self._contexts.get(name) or self._contexts.get("*." + name.partition(".")[2])
        if chosen is not None:
            connection.context = chosen


def _say_nothing_of_unreadable_names() -> None:
    """Keep Python from printing that a client named a host that is no ASCII, for which nobody is asked to choose.

    Anybody can send one. The handshake fails, and that is told as of any other.
    """
    tell = sys.unraisablehook

    def tell_of_others(failed: sys.UnraisableHookArgs) -> None:
        if not (isinstance(failed.exc_value, UnicodeDecodeError) and _is_from_a_handshake(failed.exc_traceback)):
            tell(failed)

    sys.unraisablehook = tell_of_others


def _is_from_a_handshake(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code is ssl.SSLSocket.do_handshake.__code__
