"""The clients of a soak. Each knows what it asked and has to hear, and that it has to hear nothing else.

Short connections, half-closed ones, kept ones, kept ones that are parked, short ones over TLS, and datagrams. Short
ones and datagrams also go to places with several sockets, which the workers divide up.
"""

from __future__ import annotations

import itertools
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefork.testing import Address
from tests.soak.history import History, Request
from tests.support.clients import LineClient, connect

CLIENTS = 4  # of each kind
PATIENCE = 20.0  # seconds for an answer; a new connection may have to repeat its SYN several times
DATAGRAM_PATIENCE = 5.0


class Client:
    """Asks numbered questions until told to stop, and notes what became of each."""

    def __init__(self, name: str, history: History, ask: Callable[[Client], None], stop: threading.Event) -> None:
        self.name = name
        self.stop = stop
        self._history = history
        self._ask = ask
        self._numbers = itertools.count(1)
        self.thread = threading.Thread(target=self._run, name=name)

    def _run(self) -> None:
        while not self.stop.is_set():
            self._ask(self)

    def question(self, exchange: Callable[[str], str]) -> bool:
        """Ask the next question; return whether it was answered."""
        question = f"{self.name} {next(self._numbers)}"
        began = time.monotonic()
        try:
            answer, failure = exchange(question), ""
        except OSError as error:
            answer, failure = "", type(error).__name__
        self._history.note(Request(self.name, question, began, time.monotonic(), failure))
        if not failure and answer != question:
            self._history.note_wrong(f"{self.name} asked {question!r} and was answered {answer!r}")
        return not failure


def ask_on_short_connections(address: Address) -> Callable[[Client], None]:
    def exchange(question: str) -> str:
        with LineClient(address) as connection:
            connection._socket.settimeout(PATIENCE)
            return connection.ask(f"echo {question}")

    def ask(client: Client) -> None:
        client.question(exchange)
        client.stop.wait(0.005)  # the faults are what matters, not the load

    return ask


def ask_and_half_close(address: Address) -> Callable[[Client], None]:
    """Say that nothing more will be asked, and read to the end: so a second answer would be seen."""

    def exchange(question: str) -> str:
        with LineClient(address) as connection:
            connection._socket.settimeout(PATIENCE)
            connection.send(f"echo {question}")
            connection._socket.shutdown(socket.SHUT_WR)
            answer = connection.read()
            return answer + connection._file.read().decode()

    def ask(client: Client) -> None:
        client.question(exchange)
        client.stop.wait(0.01)

    return ask


def ask_over_tls(address: Address, context: ssl.SSLContext) -> Callable[[Client], None]:
    def exchange(question: str) -> str:
        with context.wrap_socket(connect(address), server_hostname="localhost") as connection:
            connection.settimeout(PATIENCE)
            return LineClient.over(connection).ask(f"echo {question}")

    def ask(client: Client) -> None:
        client.question(exchange)
        client.stop.wait(0.02)

    return ask


def ask_on_a_kept_connection(address: Address, pause: float = 0.01) -> Callable[[Client], None]:
    """Keep the connection until it ends; the answers come in the order of the questions, or a question was lost.

    With a handler that is called for each message, it is parked during each pause.
    """

    def ask(client: Client) -> None:
        try:
            connection = LineClient(address)
        except OSError:
            return  # refused or reset while it was made: nothing had been asked
        with connection:
            connection._socket.settimeout(PATIENCE)
            while not client.stop.is_set() and not _has_ended(connection):
                if not client.question(lambda question: connection.ask(f"echo {question}")):
                    return
                client.stop.wait(pause)

    return ask


def _has_ended(connection: LineClient) -> bool:
    """Tell whether the server has closed it, or has said what nobody asked for: the next question would show that."""
    try:
        return bool(select.select([connection._socket], [], [], 0)[0]) and not connection._socket.recv(
            1, socket.MSG_PEEK
        )
    except ConnectionResetError:
        return True


def ask_by_datagrams(address: Address) -> Callable[[Client], None]:
    """Ask from one socket: an answer that comes late belongs to a former question, and no answer comes twice."""
    senders: dict[str, socket.socket] = {}  # by client
    missing: dict[str, set[str]] = {}  # the questions that have no answer yet

    def ask(client: Client) -> None:
        if client.name not in senders:
            senders[client.name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            senders[client.name].settimeout(DATAGRAM_PATIENCE)
            senders[client.name].connect(address)
        unanswered = missing.setdefault(client.name, set())

        def exchange(question: str) -> str:
            unanswered.add(question)
            senders[client.name].send(question.encode())
            answer = senders[client.name].recv(65535).decode()
            while answer != question and answer in unanswered:
                unanswered.remove(answer)
                answer = senders[client.name].recv(65535).decode()
            unanswered.discard(answer)
            return answer

        client.question(exchange)
        client.stop.wait(0.005)
        if client.stop.is_set():
            senders.pop(client.name).close()

    return ask


@dataclass(frozen=True, slots=True)
class Places:
    """Where the server is reached, and whom its certificate is believed for."""

    streams: Address
    datagrams: Address
    tls: Address
    parking: Address
    trust: ssl.SSLContext
    divided: tuple[Address, Address]
    """Of streams and of datagrams, with several sockets each."""


@contextmanager
def mixed_load(places: Places, history: History) -> Iterator[None]:
    """Keep all clients busy during the block."""
    stop = threading.Event()
    kinds = {
        "short": ask_on_short_connections(places.streams),
        "half-closed": ask_and_half_close(places.streams),
        "kept": ask_on_a_kept_connection(places.streams),
        "parked": ask_on_a_kept_connection(places.parking, pause=0.2),
        "tls": ask_over_tls(places.tls, places.trust),
        "datagram": ask_by_datagrams(places.datagrams),
        "short, divided": ask_on_short_connections(places.divided[0]),
        "datagram, divided": ask_by_datagrams(places.divided[1]),
    }
    clients = [Client(f"{kind}-{i}", history, ask, stop) for kind, ask in kinds.items() for i in range(CLIENTS)]
    for client in clients:
        client.thread.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.thread.join(2 * PATIENCE)
            if client.thread.is_alive():
                history.note_wrong(f"{client.name} waits for ever")
