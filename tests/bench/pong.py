"""The least that redis-benchmark takes for a server: what is measured is what stands around it."""

import socketserver

from prefork.serving import MessageRequestHandler


class PongHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(b"+PONG\r\n" * data.count(b"\n"))


class StreamPongHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline():
            self.wfile.write(b"+PONG\r\n")


class MessagePongHandler(MessageRequestHandler):
    def handle_message(self) -> None:
        if self.rfile.readline():
            self.wfile.write(b"+PONG\r\n")
