"""The least that redis-benchmark takes for a server: what is measured is what stands around it."""

import itertools
import socketserver
import threading
import time

from prefork.serving import MessageRequestHandler

NOTHING = threading.Event()  # never happens


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


class WaitingPongHandler(PongHandler):
    """Waits before it serves, as one that asks a database."""

    def handle(self) -> None:
        NOTHING.wait(0.005)
        super().handle()


class SometimesWaitingPongHandler(PongHandler):
    """Waits for long before one connection of a hundred."""

    connections = itertools.count(1)

    def handle(self) -> None:
        if next(self.connections) % 100 == 0:
            NOTHING.wait(0.05)
        super().handle()


class BusyPongHandler(PongHandler):
    """Computes for 5 ms before it serves."""

    def handle(self) -> None:
        end = time.thread_time() + 0.005
        while time.thread_time() < end:
            pass
        super().handle()
