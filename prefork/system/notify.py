"""Telling the service manager how we are: the sd_notify(3) protocol, one datagram for each message.

A service manager that does not read must not stop us: what cannot be sent now waits in order, and the socket is
writable when it can be sent.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass

_MOST_UNSENT = 1000  # of a manager that has stopped reading for good


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """What the service manager said to this process in its environment."""

    address: str = ""
    """NOTIFY_SOCKET: a path, or an abstract name that starts with `@`; "" if nobody wants to know."""
    watchdog: float | None = None
    """WATCHDOG_USEC in seconds: how often it wants a sign of life."""
    store_size: int = 0
    """FDSTORE: how many descriptors it keeps for us."""


def take_service_manager() -> ServiceManager:
    """Read what the service manager said, and remove it from the environment so that no child believes it.

    Raise ValueError when a number is none.
    """
    address = os.environ.pop("NOTIFY_SOCKET", "")
    interval = _number("WATCHDOG_USEC")
    watched = _number("WATCHDOG_PID")
    store_size = _number("FDSTORE")
    if not address:
        return ServiceManager()
    if not address.startswith(("/", "@")):
        raise ValueError(f"NOTIFY_SOCKET must be an absolute path or start with @, not {address!r}; unset it")
    for_us = interval > 0 and watched in (0, os.getpid())
    return ServiceManager(address, interval / 1e6 if for_us else None, store_size)


def _number(variable: str) -> int:
    text = os.environ.pop(variable, "")
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{variable} must be a number, not {text!r}; unset it, or let the service manager set it")
    return int(text or 0)


class Notifier:
    """Sends messages to the service manager, in order, without waiting."""

    def __init__(self, address: str) -> None:
        """Raise OSError if nobody listens there."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque(maxlen=_MOST_UNSENT)
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        connected.setblocking(False)
        try:
            connected.connect(self._address)
        except OSError:
            connected.close()
            raise
        return connected

    def fileno(self) -> int:
        """The descriptor that is writable when what is unsent can be sent."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether messages wait to be sent."""
        return bool(self._unsent)

    def send(self, *assignments: str, descriptor: socket.socket | None = None) -> None:
        """Send one message of NAME=VALUE lines, with a socket attached if given (SCM_RIGHTS)."""
        self._unsent.append(("\n".join(assignments).encode(errors="replace"), descriptor))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent. A message that cannot be sent at all is dropped: the manager is not there."""
        while self._unsent:
            message, attached = self._unsent[0]
            try:
                if attached is None:
                    self._socket.send(message)
                elif attached.fileno() >= 0:  # else closed meanwhile: nothing to keep
                    socket.send_fds(self._socket, [message], [attached.fileno()])
            except BlockingIOError:
                return
            except OSError:
                pass  # gone or closed: nobody is left to tell
            self._unsent.popleft()

    def close(self) -> None:
        """Stop telling."""
        self._socket.close()
