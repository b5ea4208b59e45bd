"""The mold: loads a generation's code once, then only forks workers when told.

It forks twice and the process in between exits, so the worker becomes the child of the master (a subreaper), which
can then wait for it like for any child. Only after the mold has reaped the process in between is that true; it says
so to both sides: `Forked` to the master, a byte to the worker.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prefork.config.settings import Settings
from prefork.errors import ApplicationError, PreforkError
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.ipc.commons import Commons
from prefork.ipc.scoreboard import Scoreboard
from prefork.logs import capture_application, keep_loggers, set_identity, set_up, take_reopened
from prefork.system import environment, processes
from prefork.system.privileges import become, check_readable, find_identity
from prefork.system.proctitle import set_title
from prefork.system.signals import FOR_THE_MASTER, Signals, restore_default
from prefork.system.sockets import Listener
from prefork.worker import hazards, main
from prefork.worker.application import Application, load
from prefork.worker.bytecode import cache_only_settled_sources

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("prefork.mold")

Preload = Literal["auto", "always", "never"]


@dataclass(slots=True)
class Mold:
    """Everything the mold has from the master, and what it loads."""

    generation: int
    settings: Settings
    preload: Preload
    listeners: Sequence[Listener]
    board: Scoreboard
    commons: Commons
    channel: Channel[messages.ToMold]
    master_pid: int
    application: Application | None = None
    tls_context: ssl.SSLContext | None = None


def run(mold: Mold) -> int:
    """Be the mold: load, say so, fork workers until the master is gone. Runs in a process just forked by the master."""
    for index, listener in enumerate(mold.listeners):
        listener.index = index
        listener.withhold()
    restore_default(signal.SIGCHLD)  # the master notes it; here it is the application's
    signals = Signals(handled=(), unheeded=FOR_THE_MASTER)
    signals.install()
    set_identity(gen=mold.generation)
    set_title(f"mold gen {mold.generation}", mold.settings.name)
    try:
        if _load(mold):
            signals.install()  # the application may have installed its own while it was imported
            mold.channel.send(messages.Ready())
            _fork_on_order(mold, signals.close)
    except ChannelBroken:
        pass  # the master is gone, or does not need this mold any more
    return 0


def _load(mold: Mold) -> bool:
    """Load all that workers are to inherit; tell the master and return False if they cannot be forked from here."""
    try:
        settings = mold.settings
        set_up(settings.log_level, settings.log_file, settings.log_format, settings.access_log)  # opened by root
        capture_application()
        _load_tls(mold)  # read by root, too
        become(find_identity(mold.settings.user, mold.settings.group))
        processes.die_with_parent(mold.master_pid)
        check_readable()
        prepare_surroundings(mold.settings)
        return mold.preload == "never" or _preload(mold)
    except PreforkError as error:
        mold.channel.send(messages.Failed(messages.shorten(str(error)), messages.shorten(error.detail)))
        return False


def prepare_surroundings(settings: Settings) -> None:
    """Set the environment and the working directory of the application, and what its import leaves on disk."""
    cache_only_settled_sources()
    environment.set_umask(settings.umask)
    environment.set_variables(settings.env)
    try:
        environment.change_directory(settings.chdir)
    except OSError as error:
        problem = f"cannot change to the directory {settings.chdir}: {error.strerror} (see chdir)"
        raise ApplicationError(problem) from error


def _load_tls(mold: Mold) -> None:
    if not mold.settings.tls_cert:
        return
    from prefork.worker.certificates import load_tls  # only now, as it loads OpenSSL

    tls = load_tls(mold.settings)
    mold.tls_context = tls.context
    for warning in tls.warnings:
        log.warning("%s", warning)
    for certificate in tls.certificates:
        mold.channel.send(certificate)


def _preload(mold: Mold) -> bool:
    """Import the application; tell the master and return False if workers must not be forked from here."""
    before = hazards.open_descriptors()
    mold.application = load(mold.settings, mold.listeners)
    keep_loggers()  # the application may have configured logging
    for warning in mold.application.warnings:
        log.warning("%s", warning)
    found = "; ".join(hazards.find_hazards(before, [listener.socket.fileno() for listener in mold.listeners]))
    if found and mold.preload == "auto":
        mold.channel.send(messages.Unsafe(messages.shorten(found)))
        return False
    if found:
        log.warning("forking from an unsafe mold: preload is always, and the import left %s", found)
    gc.collect()
    gc.freeze()  # what is loaded is never examined again, so its pages stay shared
    return True


def _fork_on_order(mold: Mold, close_signals: Callable[[], None]) -> None:
    waiting = select.poll()
    waiting.register(mold.channel, select.POLLIN)
    while not mold.channel.closed_by_peer:
        waiting.poll()
        for received in mold.channel.receive_all():
            match received:
                case messages.ForkWorker() as order, [channel, words]:
                    _fork_worker(mold, order, (channel, words), close_signals)
                    os.close(channel)
                    os.close(words)
                case messages.LogReopened(file), [descriptor]:
                    take_reopened(file, descriptor)


def _fork_worker(
    mold: Mold, order: messages.ForkWorker, inherited: tuple[int, int], close_signals: Callable[[], None]
) -> None:
    adopted_reader, adopted_writer = os.pipe2(os.O_CLOEXEC)
    pid_reader, pid_writer = os.pipe2(os.O_CLOEXEC)

    def be_worker() -> int:
        for unneeded in (adopted_writer, pid_reader, pid_writer):
            os.close(unneeded)
        close_signals()
        mold.channel.close()
        return main.run(_order_of(mold, order, inherited, adopted_reader))

    def fork_again() -> int:
        try:
            answer = str(processes.fork(be_worker))
        except OSError as error:
            answer = error.strerror or "fork failed"
        os.write(pid_writer, answer.encode())
        return 0

    try:
        between = processes.fork(fork_again)
        os.close(pid_writer)
        pid_writer = -1
        answer = os.read(pid_reader, 1024).decode()
        os.waitpid(between, 0)
        _tell_master(mold, order.number, answer)
    except OSError as error:
        mold.channel.send(messages.ForkFailed(order.number, error.strerror or str(error)))
    finally:
        for descriptor_here in (adopted_reader, adopted_writer, pid_reader, pid_writer):
            if descriptor_here >= 0:
                os.close(descriptor_here)  # the writer's end of file tells the worker that it has been adopted


def _tell_master(mold: Mold, number: int, answer: str) -> None:
    if answer.isdigit():
        mold.channel.send(messages.Forked(number, int(answer)))
    else:
        mold.channel.send(messages.ForkFailed(number, answer or "the process in between died"))


def _order_of(mold: Mold, order: messages.ForkWorker, inherited: tuple[int, int], adopted_reader: int) -> main.Order:
    descriptor, words = inherited
    return main.Order(
        slot=order.slot,
        accept_after=order.accept_after,
        generation=mold.generation,
        settings=mold.settings,
        listeners=mold.listeners,
        rows=mold.board.worker(order.slot),
        commons=mold.commons,
        descriptor=descriptor,
        words=words,
        adopted_reader=adopted_reader,
        master_pid=mold.master_pid,
        application=mold.application,
        tls_context=mold.tls_context,
    )
