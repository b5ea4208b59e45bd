"""What a worker's main thread sees of its servers: it starts them, drains them, and asks. Nothing here blocks it.

Servers with our pool of threads share one pool. Any other server runs as its author wrote it, its `serve_forever()` in
a thread of its own, behind a gate.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import os
import signal
import threading
from typing import Protocol

from prefork.serving.threadpool import ThreadPoolMixIn, call_on_drain
from prefork.worker.gate import State
from prefork.worker.hooks import call_on_worker_stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from prefork.serving.pool import Pool
    from prefork.worker.connections import Connections
    from prefork.worker.gate import Gate

log = logging.getLogger("prefork.worker")

POLL_INTERVAL = 1.0  # of a foreign loop; a drain does not wait for it
_LAST_WAIT = 1.0  # seconds that a server's own code may take at the very end
_numbers = itertools.count(1)


class Service(Protocol):
    """One or more servers. Its methods are called by the worker's main thread; `on_change` by any thread."""

    failure: BaseException | None
    """What ended it without being asked to; the worker cannot go on."""

    @property
    def accepting(self) -> bool:
        """Whether a connection may still be accepted."""

    @property
    def open_connections(self) -> int: ...

    @property
    def takes_over(self) -> bool:
        """Whether it goes on with connections that another worker hands over."""

    def start(self, on_change: Callable[[], object]) -> None:
        """Begin to accept; call `on_change` whenever one of the properties has changed for the worse."""

    def leave_to_others(self, listeners: frozenset[int]) -> None:
        """Serve all listeners but these from now on, which other workers do; until a drain that has to finish them."""

    def has_left(self) -> bool:
        """Say whether nothing more will be taken from the listeners that are left to others."""

    def tend(self) -> None:
        """Do what is due from time to time; called at every beat."""

    def drain(self, finish: frozenset[int], hand_over: bool = False) -> None:
        """Stop accepting: at once, or, on the listeners named, when their queue is empty.

        With `hand_over`, connections of the other listeners that can move to another worker do.
        """

    def part(self) -> None:
        """End the connections that wait for their client's next message, if they can be told from others."""

    def abort(self) -> None:
        """Shut the sockets of all open connections down."""

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        """Shut down the socket that the thread of this row serves, if it is `still` the one that is meant."""

    def close(self) -> None:
        """Call the servers' last hooks and close them, whatever they still wait for."""


class ServerEnded(Exception):
    """A server's `serve_forever()` has returned although nobody had asked the worker to drain."""


class PooledService:
    """The servers that share the worker's pool."""

    failure: BaseException | None = None

    def __init__(self, servers: Sequence[tuple[Any, Gate]], pool: Pool) -> None:
        self._servers = servers
        self._pool = pool
        self._on_change: Callable[[], object] = lambda: None
        for server, gate in servers:
            pool.add(server, gate.index, shared=gate.shared)
        pool.on_change = self._follow_pool

    @property
    def accepting(self) -> bool:
        return self._pool.accepting

    @property
    def open_connections(self) -> int:
        return self._pool.open_connections

    @property
    def takes_over(self) -> bool:
        return self._pool.ferry is not None

    def start(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        self._pool.start()

    def leave_to_others(self, listeners: frozenset[int]) -> None:
        self._pool.leave_to_others(listeners)

    def has_left(self) -> bool:
        return self._pool.has_left()

    def tend(self) -> None:
        self._pool.tend()

    def drain(self, finish: frozenset[int], hand_over: bool = False) -> None:
        self._pool.drain(finish)
        for server, gate in self._servers:
            call_on_drain(server, moving=hand_over and gate.index not in finish)
        if hand_over:
            self._pool.hand_over(finish)

    def part(self) -> None:
        self._pool.part()

    def abort(self) -> None:
        self._pool.abort()

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        self._pool.cut_row(row, still)

    def close(self) -> None:
        for server, gate in self._servers:
            _close(server)
            gate.release()

    def _follow_pool(self) -> None:
        if not self._pool.accepting:
            for _, gate in self._servers:
                gate.leave()  # so that this process does not keep the port while its connections drain
        self._on_change()


class ForeignService:
    """A server that accepts with its own code."""

    failure: BaseException | None = None
    takes_over = False  # only its own code knows what becomes of a connection

    def __init__(self, server: Any, gate: Gate, connections: Connections) -> None:
        self._server = server
        self._gate = gate
        self._connections = connections
        self._on_change: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._serve, name=f"prefork-server-{next(_numbers)}", daemon=True)
        gate.connections = connections

    @property
    def accepting(self) -> bool:
        return self._gate.accepting

    @property
    def open_connections(self) -> int:
        return len(self._connections) + len(self._children())

    def start(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        self._connections.on_change = self._gate.on_change = on_change
        self._gate.on_left = self._end_loop
        self._thread.start()

    def leave_to_others(self, listeners: frozenset[int]) -> None:
        """Do nothing: it has none of those."""

    def has_left(self) -> bool:
        return True

    def tend(self) -> None:
        """Do nothing: its own loop does, in `service_actions()`."""

    def drain(self, finish: frozenset[int], hand_over: bool = False) -> None:
        with contextlib.suppress(AttributeError):  # a property of its own, or slots
            self._server.draining = True
        has_pool = isinstance(self._server, ThreadPoolMixIn)
        if self._gate.index not in finish:
            self._gate.leave()
        else:
            self._gate.finish()
            if has_pool:
                self._server._finish_queue = True
                self._end_loop()  # its own pool knows how to finish, and does so at the end of the loop
        if not has_pool:  # that calls it, too
            call_on_drain(self._server)

    def part(self) -> None:
        """Do nothing: only its own code knows. One with our pool does so at the end of its loop."""

    def abort(self) -> None:
        self._gate.leave()
        self._connections.cut()
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        """Do nothing: which of its threads serves whom, only the server knows."""

    def close(self) -> None:
        if self._thread.ident is not None:  # it is None if we leave before we ever accepted
            self._thread.join(_LAST_WAIT)
        _close(self._server)
        if not self._thread.is_alive():
            self._gate.release()

    def _serve(self) -> None:
        """Run the server's loop, in its own thread."""
        try:
            if _takes_poll_interval(self._server.serve_forever):
                self._server.serve_forever(poll_interval=POLL_INTERVAL)
            else:
                self._server.serve_forever()
            if self._gate.state is State.OPEN:
                raise ServerEnded(f"serve_forever of {type(self._server).__qualname__} returned by itself")
        except BaseException as error:
            self.failure = error
        finally:
            self._gate.leave()
            self._on_change()
        if self._children():
            self._server.collect_children(blocking=True)
            self._on_change()

    def _end_loop(self) -> None:
        """Let the server's loop end; `shutdown()` waits for that, so it is called by a thread of its own."""
        # What the standard loops look at when they wake up, which they do now; an overriding shutdown() may be slow.
        with contextlib.suppress(AttributeError):  # no standard server
            self._server._BaseServer__shutdown_request = True
        try:
            threading.Thread(target=self._dismiss, name=f"{self._thread.name}-shutdown", daemon=True).start()
        except RuntimeError as error:
            log.warning("cannot start a thread to call shutdown: %s; leaving without", error)
        self._on_change()

    def _dismiss(self) -> None:
        try:
            self._server.shutdown()
        except Exception as error:
            log.error("shutdown failed: %s: %s; leaving", type(error).__name__, error, exc_info=error)
        self._gate.dismissed.set()

    def _children(self) -> Sequence[int]:
        """Return the processes of a ForkingMixIn."""
        children = getattr(self._server, "active_children", None)
        return tuple(children) if isinstance(children, set) else ()


def _takes_poll_interval(serve_forever: Callable[..., object]) -> bool:
    try:
        return "poll_interval" in inspect.signature(serve_forever).parameters
    except (TypeError, ValueError):
        return False


def _close(server: Any) -> None:
    """Call the last hooks. `server_close()` may wait for threads that never end, so it is not waited for for long."""
    call_on_worker_stop(server)
    closing = threading.Thread(target=_close_server, args=(server,), name="prefork-close", daemon=True)
    try:
        closing.start()
    except RuntimeError:
        return  # no thread to be had: the end of the process closes everything
    closing.join(_LAST_WAIT)


def _close_server(server: Any) -> None:
    try:
        server.server_close()
    except Exception as error:
        log.error("server_close failed: %s: %s; leaving", type(error).__name__, error, exc_info=error)
