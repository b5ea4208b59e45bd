"""Answers each datagram with its text in capitals.

prefork run examples.upper_udp:UpperHandler --bind udp://127.0.0.1:9999
"""

import socketserver


class UpperHandler(socketserver.DatagramRequestHandler):
    """A datagram is an instance: `rfile` reads what came, and what `wfile` holds at the end goes back to the sender."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


if __name__ == "__main__":
    with socketserver.UDPServer(("127.0.0.1", 9999), UpperHandler) as server:
        server.serve_forever()
