"""The peers in Python: `python -m tests.bench.peers.python NAME`. Prints the port. Ends with its standard input."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import socketserver
import sys
import threading
from typing import Any

from examples import dns
from prefork.system.processes import die_with_parent
from tests.bench.pong import PongHandler

PROCESSES = 2
BACKLOG = 2048


class Threading(socketserver.ThreadingTCPServer):
    request_queue_size = BACKLOG
    daemon_threads = True


class Forking(socketserver.ForkingTCPServer):
    request_queue_size = BACKLOG
    max_children = 100


class PongProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"+PONG\r\n" * data.count(b"\n"))


def serve_in_a_thread(server: socketserver.TCPServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_on_a_loop(listener: socket.socket) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(PongProtocol, sock=listener, backlog=BACKLOG)
        await server.serve_forever()

    asyncio.run(serve())


def main(name: str) -> None:
    match name:
        case "ThreadingTCPServer" | "ForkingTCPServer":
            kind = Threading if name == "ThreadingTCPServer" else Forking
            server = kind(("127.0.0.1", 0), PongHandler)
            announce(server.socket)
            serve_in_a_thread(server)
            sys.stdin.read()
        case "forked ThreadingTCPServer":
            server = Threading(("127.0.0.1", 0), PongHandler)
            server.socket.setblocking(False)
            announce(server.socket)
            in_processes(server.serve_forever)
        case "UDPServer" | "ThreadingUDPServer":
            server = getattr(socketserver, name)(("127.0.0.1", 0), dns.DnsHandler)
            announce(server.socket)
            serve_in_a_thread(server)
            sys.stdin.read()
        case "asyncio datagrams":
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            announce(listener)
            in_processes(lambda: answer_on_a_loop(listener))
        case "asyncio" | "uvloop":
            if name == "uvloop":
                import uvloop

                asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
            listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            announce(listener)
            in_processes(lambda: serve_on_a_loop(listener))


class DnsProtocol(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        reply = dns.answer(dns.load(str(dns.EXAMPLE_ZONE)), data, dns.message.UDP_LIMIT)
        if reply:
            self.transport.sendto(reply, address)


def answer_on_a_loop(listener: socket.socket) -> None:
    async def serve() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(DnsProtocol, sock=listener)
        await asyncio.Event().wait()

    asyncio.run(serve())


def announce(listener: socket.socket) -> None:
    print(listener.getsockname()[1], flush=True)


def in_processes(serve: Any) -> None:
    """Serve in some forked processes until the standard input ends."""
    parent = os.getpid()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if not child:
            die_with_parent(parent)
            serve()
        children.append(child)
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(sys.argv[1])
