"""The main thread of a worker whose master goes, or does not listen, at the worst moment."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from prefork.ipc import messages
from prefork.ipc.channel import Channel, make_pair
from prefork.ipc.scoreboard import Scoreboard
from prefork.system.signals import Signals
from prefork.worker.obey import Worker


class OneConnection:
    """A service with one open connection, which ends when the test says so."""

    failure: BaseException | None = None
    takes_over = False

    def __init__(self) -> None:
        self.open_connections = 1
        self.drained = threading.Event()
        self.before_the_master_is_told: Callable[[], object] = lambda: None

    @property
    def accepting(self) -> bool:
        if self.drained.is_set():
            self.before_the_master_is_told()
        return not self.drained.is_set()

    def start(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change

    def drain(self, finish: frozenset[int], hand_over: bool = False) -> None:
        self.drained.set()

    def end(self) -> None:
        self.open_connections = 0
        self._on_change()

    def leave_to_others(self, listeners: frozenset[int]) -> None: ...

    def has_left(self) -> bool:
        return True

    def tend(self) -> None: ...

    def part(self) -> None: ...

    def cut_row(self, row: int, still: Callable[[], bool]) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Scene:
    """A worker, played by this thread; the rest is played by another."""

    def __init__(self, words: int) -> None:
        self.master, theirs = make_pair()
        self._channel = Channel(theirs, messages.to_worker)
        self._signals = Signals(handled=())
        self.service = OneConnection()
        self.worker = Worker(
            rows=Scoreboard(slots=1, threads=2, listeners=["tcp://:1"]).worker(0),
            channel=self._channel,
            signals=self._signals,
            services=[self.service],
            listeners=[],
            drain_timeout=300,
            accept_after=0,
            handler_timeout=0,
            words=words,
        )

    def order_drain(self) -> None:
        self.master.send(messages.encode(messages.Drain(300, [], False)))

    def obey_while(self, play: Callable[[], object]) -> int:
        player = threading.Thread(target=play)
        player.start()
        try:
            return self.worker.obey()
        finally:
            player.join()

    def hear(self) -> list[messages.FromWorker]:
        """What the master can read."""
        heard: list[messages.FromWorker] = []
        while True:
            try:
                packet = self.master.recv(messages.PACKET_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return heard
            heard.append(messages.from_worker.decode(packet))

    def close(self) -> None:
        self._signals.close()
        self._channel.close()
        self.master.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    words = os.memfd_create("words")
    staged = Scene(words)
    yield staged
    staged.close()
    os.close(words)


def test_a_master_that_goes_before_it_can_be_told_costs_no_open_connection(scene: Scene) -> None:
    left = []
    scene.service.before_the_master_is_told = scene.master.close

    def play() -> None:
        assert scene.service.drained.wait(30)
        left.append(scene.service.open_connections)
        scene.service.end()

    scene.order_drain()

    assert scene.obey_while(play) == 0
    assert left == [1]


def test_a_master_that_takes_nothing_is_told_later(scene: Scene) -> None:
    def be_deaf() -> None:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(scene._channel.fileno(), messages.encode(messages.Overloaded(True)))

    def play() -> None:
        assert scene.service.drained.wait(30)
        heard: list[messages.FromWorker] = []
        while messages.StoppedAccepting() not in heard:
            heard += scene.hear()
        scene.service.end()

    scene.service.before_the_master_is_told = be_deaf
    scene.order_drain()

    assert scene.obey_while(play) == 0
