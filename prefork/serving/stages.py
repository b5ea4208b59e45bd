"""What a connection passes before its handler: the header of the PROXY protocol, then the TLS handshake.

Both happen in the connection's own thread, after `verify_request` and under one deadline, so that a slow or silent peer
takes one thread for that time and delays nobody else. The header comes first because a proxy sends it before what it
forwards. A connection that does not get through is refused: closed, with the reason in the log at DEBUG.
"""

from __future__ import annotations

import logging
import math
import ssl
from time import monotonic
from weakref import WeakKeyDictionary

from prefork.serving import tls
from prefork.serving.poolthread import current_pool_thread, note_refused
from prefork.serving.proxy import receive_header
from prefork.serving.proxy_header import ProxyHeaderError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from prefork.serving.proxy_header import ProxyHeader

log = logging.getLogger("prefork.serving")

# By the connection as its handler has it.
_headers: WeakKeyDictionary[Any, ProxyHeader] = WeakKeyDictionary()


def give_proxy_header(request: Any, header: ProxyHeader) -> None:
    """Note what a proxy has said about a connection to another process."""
    _headers[request] = header


class Refused(Exception):
    """The connection does not get through; the text says why."""


def log_refused(reason: str, client_address: object) -> None:
    log.debug("connection from %s refused: %s", client_address, reason)


class StagesMixIn:
    """Put it in front of a stream server with a pool of threads. A stage that is not configured is left out."""

    handshake_timeout: float = 10.0  # of all stages together; 0 is for ever
    tls_context: ssl.SSLContext | None = None
    trusted_proxies: Callable[[Any], bool] | None = None
    """If given, a header is demanded of the addresses that it accepts, and all others are refused."""

    report_refused: Callable[[str, Any], object] = staticmethod(log_refused)

    def proxy_header(self, request: Any) -> ProxyHeader | None:
        """Return what the proxy said about this connection, if there is a proxy."""
        return _headers.get(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the request if it gets through."""
        passage = _Passage(request, client_address, self.handshake_timeout)
        try:
            if self.trusted_proxies is not None:
                passage.receive_header(self.trusted_proxies)
            if self.tls_context is not None:
                passage.shake_hands(self.tls_context)
            passage.end()
        except Refused as refused:
            self._refuse(passage, str(refused))
        else:
            self._serve(passage.request, passage.client_address)

    def _serve(self, request: Any, client_address: Any) -> None:
        """Do what the server does with any request; its caller knows the connection only as it was before."""
        try:
            super().process_request(request, client_address)  # type: ignore[misc]  # of the server class this is mixed into
        except BaseException:  # the thread of a pool outlives them all
            try:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)

    def _refuse(self, passage: _Passage, reason: str) -> None:
        self.report_refused(reason, passage.client_address)
        note_refused()
        self.shutdown_request(passage.request)

    def shutdown_request(self, request: Any) -> None:
        """Say that nothing more comes, over TLS too, and close the connection."""
        if isinstance(request, ssl.SSLSocket):
            tls.send_close_notify(request)
        super().shutdown_request(request)  # type: ignore[misc]  # of the server class this is mixed into

    if TYPE_CHECKING:

        def handle_error(self, request: Any, client_address: Any) -> None: ...


class _Passage:
    """A connection on its way: what it is by now, and from whom."""

    def __init__(self, request: socket.socket, client_address: Any, seconds: float) -> None:
        self.request = request
        self.client_address = client_address
        self._header: ProxyHeader | None = None
        self._timeout = request.gettimeout()
        self._deadline = monotonic() + seconds if seconds else math.inf

    def receive_header(self, is_trusted: Callable[[Any], bool]) -> None:
        """Learn from the proxy who the client is; of a LOCAL connection it is the proxy itself."""
        if not is_trusted(self.client_address):
            raise Refused("its address is not one of trusted_proxies")
        try:
            self._header = receive_header(self.request, self._deadline)
        except TimeoutError:
            raise Refused("its PROXY header did not come in time") from None
        except (OSError, ProxyHeaderError) as error:
            raise Refused(f"no good PROXY header: {error}") from None
        if self._header.source is not None:
            self._identify(self._header.source)

    def _identify(self, client_address: Any) -> None:
        self.client_address = client_address
        if (thread := current_pool_thread()) is None:
            return
        thread.pool.activity.identified(thread.row, client_address)
        # What a header says of a Unix socket does not tell one client from another.
        admission = thread.pool.admission if isinstance(client_address, tuple) else None
        if admission is not None and not admission.identify(self.request, client_address):
            raise Refused("its client has as many connections as limit_per_peer allows")

    def shake_hands(self, context: ssl.SSLContext) -> None:
        """Go on over TLS."""
        try:
            self.request = secured = tls.wrap(self.request, context)
            if (thread := current_pool_thread()) is not None:
                thread.exchange(secured)
            tls.shake_hands(secured, self._deadline)
        except TimeoutError:
            raise Refused("its TLS handshake did not end in time") from None
        except OSError as error:
            raise Refused(f"TLS handshake failed: {error}") from None

    def end(self) -> None:
        """Give the connection the time-out that it came with."""
        self.request.settimeout(self._timeout)
        if self._header is not None:
            _headers[self.request] = self._header
