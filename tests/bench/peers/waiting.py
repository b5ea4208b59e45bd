"""Threads that accept for themselves, and nothing else: `python -m tests.bench.peers.waiting WAY THREADS`.

Prints the port; ends with its standard input. A new connection costs here what the way to wait for it costs, the
interpreter, and the calls that any server makes.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator

from tests.bench.peers.python import BACKLOG, announce, in_processes

Take = Callable[[], socket.socket]


def accept(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None  # the other process was quicker


def in_accept(listener: socket.socket) -> Iterator[Take]:
    """Every thread blocks in accept()."""
    listener.setblocking(True)
    while True:
        yield lambda: listener.accept()[0]


def by_leader(listener: socket.socket) -> Iterator[Take]:
    """One thread waits; when it has a connection it wakes the next one."""
    lock, followers = threading.Lock(), list[threading.Lock]()
    leading = False
    poll = select.poll()
    poll.register(listener, select.POLLIN)

    def make() -> Take:
        turn = threading.Lock()
        turn.acquire()

        def take() -> socket.socket:
            nonlocal leading
            with lock:
                mine = not leading
                if mine:
                    leading = True
                else:
                    followers.append(turn)
            if not mine:
                turn.acquire()
            while True:
                poll.poll()
                if connection := accept(listener):
                    break
            with lock:
                if followers:
                    followers.pop().release()
                else:
                    leading = False
            return connection

        return take

    while True:
        yield make()


def by_oneshot(listener: socket.socket) -> Iterator[Take]:
    """All threads wait in one epoll; the kernel wakes one of them, which arms it again after its accept."""
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN | select.EPOLLONESHOT)

    def take() -> socket.socket:
        while True:
            epoll.poll(maxevents=1)
            connection = accept(listener)
            epoll.modify(listener, select.EPOLLIN | select.EPOLLONESHOT)
            if connection:
                return connection

    while True:
        yield take


WAYS = {"accept": in_accept, "leader": by_leader, "oneshot": by_oneshot}


def serve(take: Take) -> None:
    while True:
        connection = take()
        while connection.recv(4096):
            connection.sendall(b"+PONG\r\n")
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # reset by the client
        connection.close()


def main(way: str, threads: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    announce(listener)

    def serve_in_threads() -> None:
        takes = WAYS[way](listener)
        for _ in range(threads - 1):
            threading.Thread(target=serve, args=(next(takes),), daemon=True).start()
        serve(next(takes))

    in_processes(serve_in_threads)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
