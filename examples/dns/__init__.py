"""An authoritative DNS server for one zone file, over UDP and TCP on the same port.

prefork run examples.dns:DnsHandler --bind udp://127.0.0.1:5353 --bind tcp://127.0.0.1:5353 --set zone=/etc/my.zone

Every worker reads the zone when it starts. So `prefork reload` reads it again, and if there is an error in it, the
reload fails, says so, and the old workers go on serving the old zone.
"""

import functools
import socket
import socketserver
import struct
from pathlib import Path

from examples.dns import message
from examples.dns.zone import Zone, read_zone

EXAMPLE_ZONE = Path(__file__).parent.parent / "example.zone"


class DnsHandler(socketserver.BaseRequestHandler):
    """One class for both transports: only the way a message comes and goes differs."""

    @staticmethod
    def on_worker_start(server: socketserver.BaseServer) -> None:
        """Called by prefork in every new worker before it serves; what it raises means that the worker cannot."""
        zone_of(server)

    def handle(self) -> None:
        if isinstance(self.request, tuple):
            datagram, listener = self.request
            reply = answer(zone_of(self.server), datagram, message.UDP_LIMIT)
            if reply:
                listener.sendto(reply, self.client_address)
        else:
            self.request.settimeout(10)
            try:
                self.converse(self.request)
            except TimeoutError:
                pass  # The client has nothing more to ask.

    def converse(self, connection: socket.socket) -> None:
        """Over TCP a message is preceded by its length, and a client may ask again and again."""
        with connection.makefile("rb") as stream:
            while len(length := stream.read(2)) == 2:
                query = stream.read(*struct.unpack("!H", length))
                reply = answer(zone_of(self.server), query, message.TCP_LIMIT)
                if not reply:
                    return
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def zone_of(server: socketserver.BaseServer) -> Zone:
    """`--set zone=PATH` sets an attribute on the server, and this is where it is read."""
    return load(str(getattr(server, "zone", EXAMPLE_ZONE)))


@functools.cache
def load(path: str) -> Zone:
    return read_zone(Path(path).read_text())


def answer(zone: Zone, data: bytes, limit: int) -> bytes | None:
    """The reply to a query, or None if there is nothing to say: to something that is no query at all."""
    try:
        query = message.read_query(data)
    except message.NotAQuery:
        return None
    if query.error:
        return message.write_reply(query, query.error, limit=limit)
    if query.class_ not in (message.IN, message.ANY) or not zone.holds(query.name):
        return message.write_reply(query, message.REFUSED, limit=limit)
    exists, records = zone.look_up(query.name, query.type)
    code = message.NOERROR if exists else message.NXDOMAIN
    # An answer without the records asked for says for how long to believe it: that is in the SOA record.
    authority = [] if records and exists else [zone.soa]
    return message.write_reply(query, code, records, authority, authoritative=True, limit=limit)
