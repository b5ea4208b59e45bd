"""The wait of a foreign server's loop: the standard one, which a drain also ends.

The standard library's `serve_forever()` and `handle_request()` make their selector when they begin, and so do ours. A
loop that was woken is told that its listener is ready: then both kinds go round once, try to take a request, which
the gate decides, and look whether they are to end.
"""

from __future__ import annotations

import selectors
import socketserver
import threading
import time

from prefork.serving import base
from prefork.serving.wait import shorter
from prefork.worker.gate import State, gates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from prefork.worker.gate import Gate

_DISMISSED_WAIT = 0.5  # for a loop that should have ended


class WakingSelector(selectors.PollSelector):
    """Knows an adopted listener by its descriptor; with any other it is the standard selector."""

    def __init__(self) -> None:
        super().__init__()
        self._gate: Gate | None = None
        self._listener: selectors.SelectorKey | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        gate = gates.get(key.fd)
        if gate is not None:
            self._gate, self._listener = gate, key
            super().register(gate.wakeup, selectors.EVENT_READ)
            gate.waiting_threads.add(threading.get_ident())
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        if self._gate is not None and key is self._listener:
            super().unregister(self._gate.wakeup)
            self._gate = self._listener = None
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._gate is None or self._listener is None:
            return super().select(timeout)
        if self._gate.state is State.OPEN:
            rest = self._gate.rest.until - time.monotonic()
            ready = super().select(timeout) if rest <= 0 else self._sit_out(shorter(timeout, rest))
            if self._gate.state is State.OPEN:
                return ready
        elif self._gate.state is State.LEFT:
            self._gate.dismissed.wait(_DISMISSED_WAIT if timeout is None else min(timeout, _DISMISSED_WAIT))
        return [(self._listener, selectors.EVENT_READ)]

    def _sit_out(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait without the listener, which is readable all the time."""
        assert self._listener is not None
        fileobj, _, events, data = self._listener
        super().unregister(fileobj)
        try:
            return super().select(timeout)
        finally:
            self._listener = super().register(fileobj, events, data)

    def close(self) -> None:
        if self._gate is not None:
            self._gate.waiting_threads.discard(threading.get_ident())
        super().close()


def install() -> None:
    """Let the loops of both lineages use it, unless somebody has put a selector of their own there."""
    for module in (socketserver, base):
        if getattr(module, "_ServerSelector", None) is selectors.PollSelector:
            setattr(module, "_ServerSelector", WakingSelector)  # noqa: B010  not in the stubs
