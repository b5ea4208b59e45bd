"""Requests that a client makes in two halves, so that it decides when the server has an open one; and many of them."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import dnslib

from prefork.testing import Address
from tests.support.clients import TIME_LIMIT, connect


class Visit(Protocol):
    """One request: making it sends the first half."""

    def finish(self) -> str:
        """Send the rest and return the answer."""


class StreamVisit:
    """A request on a connection of its own, answered until the server hangs up."""

    def __init__(self, address: Address, text: str) -> None:
        self._socket = connect(address)
        middle = len(text) // 2
        self._rest = text[middle:].encode()
        self._socket.sendall(text[:middle].encode())

    def finish(self) -> str:
        with self._socket, self._socket.makefile("rb") as answer:
            self._socket.sendall(self._rest)
            self._socket.shutdown(socket.SHUT_WR)
            return answer.read().decode()


class DatagramVisit:
    """A datagram, which has no halves; its answer is waited for in the second one."""

    def __init__(self, address: Address, data: bytes) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(TIME_LIMIT)
        self._socket.connect(address)
        self._socket.send(data)

    def finish(self) -> str:
        with self._socket:
            return self.answer().decode()

    def answer(self) -> bytes:
        """Return the answering datagram."""
        return self._socket.recv(65535)


class DnsOverUdp(DatagramVisit):
    def __init__(self, address: Address, name: str) -> None:
        super().__init__(address, dnslib.DNSRecord.question(name).pack())

    def finish(self) -> str:
        with self._socket:
            return read_dns(self.answer())


class DnsOverTcp:
    def __init__(self, address: Address, name: str) -> None:
        question = dnslib.DNSRecord.question(name).pack()
        self._socket = connect(address)
        self._socket.sendall(struct.pack("!H", len(question)) + question[:5])
        self._rest = question[5:]

    def finish(self) -> str:
        with self._socket, self._socket.makefile("rb") as answer:
            self._socket.sendall(self._rest)
            (length,) = struct.unpack("!H", answer.read(2))
            return read_dns(answer.read(length))


def read_dns(answer: bytes) -> str:
    """Return the data of the first answer."""
    return str(dnslib.DNSRecord.parse(answer).a.rdata)


class Visitors:
    """Clients that visit again and again until told to stop, and what they got instead of the answer."""

    def __init__(self, visit: Callable[[], str], answer: str) -> None:
        self._visit = visit
        self._answer = answer
        self._stop = threading.Event()
        self._answered = threading.Condition()
        self._count = 0  # under _answered
        self.failures: list[str] = []  # under _answered

    def run(self) -> None:
        """Visit until told to stop."""
        while not self._stop.is_set():
            try:
                got = self._visit()
            except Exception as error:
                got = repr(error)
            with self._answered:
                self._count += 1
                self._answered.notify_all()
                if self._answer not in got:
                    self.failures.append(got)

    def wait_for_more(self, count: int = 50) -> None:
        """Return when so many more visits are over."""
        with self._answered:
            wanted = self._count + count
            assert self._answered.wait_for(lambda: self._count >= wanted, TIME_LIMIT), self.failures

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def steady_visits(visit: Callable[[], str], answer: str, clients: int = 6) -> Iterator[Visitors]:
    """Keep so many clients visiting during the block; an answer must contain `answer`."""
    visitors = Visitors(visit, answer)
    threads = [threading.Thread(target=visitors.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield visitors
    finally:
        visitors.stop()
        for thread in threads:
            thread.join(2 * TIME_LIMIT)
