"""What code written for a program of its own does, and must not do in a worker.

Servers remove a socket file before they bind it and after they close it: here the file is the master's, and clients
need it. Some install signal handlers when they begin to serve: here that is not the main thread, where Python allows
it, and the signals are the worker's. Neither is an error of theirs, so it is simply not done.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from prefork.system.sockets import Listener

log = logging.getLogger("prefork.worker")

_protected: set[str] = set()


def guard(listeners: Sequence[Listener]) -> None:
    """Protect the listeners' socket files and the worker's signals from now on; again only adds files."""
    for listener in listeners:
        name = listener.socket.getsockname() if listener.socket.family == socket.AF_UNIX else b""
        if isinstance(name, str) and name:
            _protected.add(os.path.realpath(name))
    for module, name, replace in (
        (os, "unlink", _keep_socket_files),
        (os, "remove", _keep_socket_files),
        (signal, "signal", _keep_signals),
    ):
        original = getattr(module, name)
        if not hasattr(original, "_guarded"):
            guarded: Any = replace(original)
            guarded._guarded = True
            setattr(module, name, guarded)


def _keep_socket_files(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def unlink(path: Any, *args: Any, **kwargs: Any) -> None:
        if _protected and not isinstance(path, int) and not kwargs.get("dir_fd") and _real(path) in _protected:
            log.debug("socket file kept: %s is a listener's; the master removes it", path)
            return
        original(path, *args, **kwargs)

    return unlink


def _keep_signals(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def install(signalnum: Any, handler: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            log.debug("signal handler not installed: a server runs in a thread; the worker minds its signals")
            return signal.getsignal(signalnum)
        return original(signalnum, handler)

    return install


def _real(path: Any) -> str:
    try:
        return os.path.realpath(os.fsdecode(path))
    except (TypeError, ValueError):
        return ""  # the original says what is wrong with it
