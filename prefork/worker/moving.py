"""How a worker hands its parked connections over to others, and finds the servers for those that it takes over."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from prefork.address import format_peer
from prefork.ipc.ferry import FerryError, Passenger

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Any

    from prefork.ipc.ferry import Ferry
    from prefork.serving.conversation import Conversation

log = logging.getLogger("prefork.worker")


class Movement:
    """The ferry as a pool of threads wants it. `servers`: by the address of the listener, with its index."""

    def __init__(self, ferry: Ferry, slot: int, servers: Mapping[str, tuple[Any, int]]) -> None:
        self._ferry = ferry
        self._slot = slot
        self._servers = servers
        self._addresses = {index: address for address, (_, index) in servers.items()}

    def fileno(self) -> int:
        return self._ferry.fileno()

    def sending_end(self) -> int:
        return self._ferry.sending_end()

    def show(self, parked: int | None) -> None:
        self._ferry.show(self._slot, parked)

    def fewest(self) -> int | None:
        return self._ferry.fewest(self._slot)

    def send(self, conversation: Conversation, state: bytes) -> bool:
        """Say whether it is on its way; if it never can be, it stays."""
        request, address = conversation.request, conversation.client_address
        header = conversation.server.proxy_header(request)
        passenger = Passenger(
            self._addresses[conversation.listener],
            list(address) if isinstance(address, tuple) else address,
            conversation.opened_at,
            state,
            None if header is None else asdict(header),
        )
        try:
            return self._ferry.send(passenger, request.fileno())
        except FerryError as error:
            log.warning("cannot hand over the connection of %s: %s; it stays here", format_peer(address), error)
            conversation.stays = True
            return False

    def receive(self) -> Conversation | None:
        """Return the next connection that one of our servers can take over. Raise OSError if there is no room."""
        while True:
            try:
                received = self._ferry.receive()
            except FerryError as error:
                log.error("cannot take over a connection: %s; it is closed", error)
                continue
            if received is None:
                return None
            conversation = self._make(*received)
            if conversation is not None:
                return conversation

    def _make(self, passenger: Passenger, request: socket.socket) -> Conversation | None:
        address = passenger.client_address
        client_address = tuple(address) if isinstance(address, list) else address
        try:
            conversation = self._take_over(passenger.listener, request, client_address)
            if conversation is not None:
                if passenger.proxy_header is not None:
                    _give_proxy_header(request, passenger.proxy_header)
                conversation.arriving = True
                conversation.opened_at, conversation.state = passenger.opened_at, passenger.state
                return conversation
            reason = f"no handler of this worker goes on with those of {passenger.listener}"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        log.warning("cannot take over the connection of %s: %s; it is closed", format_peer(client_address), reason)
        request.close()
        return None

    def _take_over(self, listener: str, request: socket.socket, client_address: object) -> Conversation | None:
        if listener not in self._servers:
            return None
        server, index = self._servers[listener]
        conversation: Conversation | None = server.take_over(request, client_address, index)
        return conversation


def _give_proxy_header(request: socket.socket, fields: dict[str, Any]) -> None:
    """Give it what was a ProxyHeader, whose tuples have become lists."""
    from prefork.serving.proxy_header import ProxyHeader, ProxySSL  # nobody else needs these modules
    from prefork.serving.stages import give_proxy_header

    for name in ("source", "destination"):
        if isinstance(fields[name], list):
            fields[name] = tuple(fields[name])
    fields["other"] = tuple((kind, value) for kind, value in fields["other"])
    fields["ssl"] = fields["ssl"] and ProxySSL(**fields["ssl"])
    give_proxy_header(request, ProxyHeader(**fields))
