"""The admin helper: asks the master how the server is, once a second, and shows that to everybody who asks.

It is forked by the master and dies with it. Its main thread asks; a pool of threads answers from what was heard last,
so clients never reach the master. It never imports the application, and serves whether workers do or not.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prefork.admin.agent import AgentHandler
from prefork.admin.http import REQUEST_TIME, HttpHandler
from prefork.admin.pages import Pages
from prefork.errors import ApplicationError
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.logs import take_reopened
from prefork.serving.pool import Pool
from prefork.serving.stream import TCPServer
from prefork.serving.threadpool import ThreadPoolMixIn
from prefork.system import processes
from prefork.system.privileges import Identity, become
from prefork.system.proctitle import set_title
from prefork.system.signals import FOR_THE_MASTER, Signals

log = logging.getLogger("prefork.admin")

INTERVAL = 1.0  # seconds between two questions to the master
_THREADS = 32


@dataclass(slots=True)
class Order:
    """What an admin helper is born with; its sockets by their purpose, `admin` or `agent`."""

    server_name: str
    sockets: Mapping[str, socket.socket]
    channel: Channel[messages.ToAdmin]
    master_pid: int
    identity: Identity | None = None


class Server(ThreadPoolMixIn, TCPServer):
    """Serves on an inherited listener; its handlers find the pages in `pages`."""

    def __init__(self, listener: socket.socket, handler: type[HttpHandler | AgentHandler], pages: Pages) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()  # the one that the constructor made
        self.socket = listener
        self.pages = pages

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a mistake of ours; that a client has gone is none."""
        error = sys.exception()
        log.error("serving an admin client failed: the connection is closed", exc_info=error)


def run(order: Order) -> int:
    """Be the admin helper; return the exit status. Runs in a process just forked by the master."""
    Signals(handled=(), unheeded=FOR_THE_MASTER).install()
    set_title("admin", order.server_name)
    try:
        _serve(order)
    except ChannelBroken:
        pass  # the master is gone, or will start another helper
    return 1


def _serve(order: Order) -> None:
    try:
        become(order.identity)
    except ApplicationError as error:
        order.channel.send(messages.Failed(messages.shorten(str(error)), ""))
        return
    processes.die_with_parent(order.master_pid)
    pages = Pages(order.master_pid)
    pool = Pool(_THREADS, idle_timeout=REQUEST_TIME)
    handlers: dict[str, type[HttpHandler | AgentHandler]] = {"admin": HttpHandler, "agent": AgentHandler}
    for index, (purpose, listener) in enumerate(order.sockets.items()):
        pool.add(Server(listener, handlers[purpose], pages), index)
    _follow_master(order.channel, pages, pool)


def _follow_master(channel: Channel[messages.ToAdmin], pages: Pages, pool: Pool) -> None:
    """Ask and hear until the master has gone; begin to serve with the first answer."""
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    channel.send(messages.AskStatus())
    asked = time.monotonic()
    answered = ready = False
    while not channel.closed_by_peer:
        # One question at a time: a master that does not answer is not asked again.
        due = asked + INTERVAL
        waiting.poll(max(0.0, 1000 * (due - time.monotonic())) if answered else None)
        for message, descriptors in channel.receive_all():
            answered = _take(message, descriptors, pages) or answered
        if answered and not ready:
            pool.start()
            channel.send(messages.Ready())
            ready = True
        if answered and time.monotonic() >= due:
            channel.send(messages.AskStatus())
            asked = time.monotonic()
            answered = False


def _take(message: messages.ToAdmin, descriptors: list[int], pages: Pages) -> bool:
    """Take what the master said; return whether it was the answer, be it that it has none now."""
    match message:
        case messages.Status():
            for descriptor in descriptors:
                try:
                    pages.update(os.pread(descriptor, os.fstat(descriptor).st_size, 0), time.monotonic())
                finally:
                    os.close(descriptor)
            return True
        case messages.LogReopened(file):
            for descriptor in descriptors:
                take_reopened(file, descriptor)
    return False
