"""The clients of a soak: short connections, kept ones, and datagrams. Each knows what it asked and has to hear."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefork.testing import Address
from tests.soak.history import History, Request
from tests.support.clients import LineClient

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


def ask_on_a_kept_connection(address: Address) -> Callable[[Client], None]:
    """Keep the connection until it ends; the answers come in the order of the questions, or a question was lost."""

    def ask(client: Client) -> None:
        try:
            connection = LineClient(address)
        except OSError:
            return  # refused or reset while it was made: nothing had been asked
        with connection:
            connection._socket.settimeout(PATIENCE)
            while not client.stop.is_set():
                if not client.question(lambda question: connection.ask(f"echo {question}")):
                    return
                client.stop.wait(0.01)

    return ask


def ask_by_datagrams(address: Address) -> Callable[[Client], None]:
    def exchange(question: str) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(DATAGRAM_PATIENCE)
            sender.connect(address)
            sender.send(question.encode())
            return sender.recv(65535).decode()

    def ask(client: Client) -> None:
        client.question(exchange)
        client.stop.wait(0.005)

    return ask


@contextmanager
def mixed_load(streams: Address, datagrams: Address, history: History) -> Iterator[None]:
    """Keep all clients busy during the block."""
    stop = threading.Event()
    kinds = {
        "short": ask_on_short_connections(streams),
        "kept": ask_on_a_kept_connection(streams),
        "datagram": ask_by_datagrams(datagrams),
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
