"""Sends back whatever a client sends, until the client has finished.

prefork run examples.echo:EchoHandler
"""

import socketserver


class EchoHandler(socketserver.BaseRequestHandler):
    """A connection is an instance: `self.request` is its socket, and the connection ends when `handle` returns."""

    def handle(self) -> None:
        # An empty read means that the client has closed its side.
        while data := self.request.recv(65536):
            self.request.sendall(data)


if __name__ == "__main__":
    # Without prefork: one process, and a thread started for every connection.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 9999), EchoHandler) as server:
        server.serve_forever()
