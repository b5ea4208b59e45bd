"""A worker: builds the servers of the application on the inherited listeners, then obeys the master.

Its main thread beats, listens to the master and never serves; the servers have threads of their own.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.config.settings import Settings
from prefork.errors import ApplicationError
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.ipc.commons import Commons
from prefork.ipc.scoreboard import WorkerRows
from prefork.logs import keep_loggers, set_identity
from prefork.system import environment, processes
from prefork.system.proctitle import set_title
from prefork.system.signals import FOR_THE_MASTER, Signals
from prefork.system.sockets import Listener
from prefork.system.stacks import write_stacks_when_asked
from prefork.worker.application import Application, WorkerInfo, load
from prefork.worker.obey import Worker
from prefork.worker.shares import Shares, groups_of

if TYPE_CHECKING:
    import ssl

    from prefork.serving.limits import Admission

log = logging.getLogger("prefork.worker")

_UNHEEDED = tuple(number for number in FOR_THE_MASTER if number != signal.SIGTERM)


@dataclass(slots=True)
class Order:
    """What a worker is born with."""

    slot: int
    accept_after: float
    generation: int
    settings: Settings
    listeners: Sequence[Listener]
    rows: WorkerRows
    commons: Commons
    descriptor: int  # of its end of the channel
    words: int  # the file for its stacks
    adopted_reader: int  # reads end of file once the process is a child of the master
    master_pid: int
    application: Application | None
    tls_context: ssl.SSLContext | None


def run(order: Order) -> int:
    """Be the worker; return the exit status. Runs in a process just forked by a mold."""
    write_stacks_when_asked(order.words)  # before the signal that asks is unblocked: it would be deadly
    signals = Signals(handled=(signal.SIGTERM,), unheeded=_UNHEEDED)
    signals.install()
    _wait_for_adoption(order)
    set_identity(worker=order.slot, gen=order.generation, pid=os.getpid())
    processes.raise_descriptor_limit()
    set_title(f"worker {order.slot} gen {order.generation}", order.settings.name)
    environment.identify_worker(order.slot, order.generation)
    channel = Channel(socket.socket(fileno=order.descriptor), messages.to_worker)
    try:
        return _serve(order, channel, signals)
    except ChannelBroken:
        return 1  # the master is gone, and with it everybody who could be told
    finally:
        _run_exit_functions()


def _serve(order: Order, channel: Channel[messages.ToWorker], signals: Signals) -> int:
    try:
        channel.send(messages.Hello(os.getpid()))
        return _build(order, channel, signals).obey()
    except ApplicationError as error:
        channel.send(messages.Failed(messages.shorten(str(error)), messages.shorten(error.detail)))
        return 1


def _wait_for_adoption(order: Order) -> None:
    """Wait until the master is our parent, so that its death while we load the application is ours too."""
    os.read(order.adopted_reader, 1)
    os.close(order.adopted_reader)
    processes.die_with_parent(order.master_pid)


def _build(order: Order, channel: Channel[messages.ToWorker], signals: Signals) -> Worker:
    application = order.application
    if application is None:
        application = load(order.settings, order.listeners)
        for warning in application.warnings:
            log.warning("%s", warning)
    info = WorkerInfo(slot=order.slot, generation=order.generation, pid=os.getpid())
    admission = _make_admission(order)
    services = application.build(
        order.listeners, order.settings, order.rows, info, admission, order.tls_context, order.commons.ferry
    )
    if not any(service.takes_over for service in services):
        order.commons.ferry.close()
    groups = groups_of(order.listeners)
    shares = Shares(order.commons.claims, groups) if groups else None
    if shares is None:
        order.commons.claims.close()
    signals.install()  # constructors may have installed their own
    keep_loggers()  # or have configured logging
    write_stacks_when_asked(order.words)  # or have set faulthandler up for themselves
    processes.outlive_parent()
    return Worker(
        rows=order.rows,
        channel=channel,
        signals=signals,
        services=services,
        listeners=order.listeners,
        drain_timeout=order.settings.drain_timeout,
        accept_after=order.accept_after,
        admission=admission,
        shares=shares,
        handler_timeout=order.settings.handler_timeout,
        words=order.words,
        measures_share=order.settings.admin != "off",
    )


def _make_admission(order: Order) -> Admission | None:
    connections, per_peer = order.settings.limit_connections, order.settings.limit_per_peer
    if not connections and not per_peer:
        order.commons.ledger.close()
        return None
    from prefork.serving.limits import Admission  # its imports are not needed without a limit

    ledger = order.commons.ledger
    return Admission(ledger.account(order.slot), connections, per_peer, ledger.key)


def _run_exit_functions() -> None:
    """Run what the application registered with atexit, which leaving through os._exit would skip."""
    try:
        atexit._run_exitfuncs()
    except Exception:
        log.exception("exit function failed: the worker leaves all the same")
