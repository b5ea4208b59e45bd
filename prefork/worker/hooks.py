"""The optional hooks of a server or its handler: told when a worker begins and when it has ended."""

from __future__ import annotations

import logging

from prefork.worker.blame import application_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

log = logging.getLogger("prefork.worker")


def call_on_worker_start(server: Any) -> None:
    """Raise ApplicationError if a hook raises: a worker that is not set up must not serve."""
    for hook, arguments in _find("on_worker_start", server):
        try:
            hook(*arguments)
        except (Exception, SystemExit) as error:
            raise application_error("on_worker_start failed", error) from error


def call_on_worker_stop(server: Any) -> None:
    for hook, arguments in _find("on_worker_stop", server):
        try:
            hook(*arguments)
        except (Exception, SystemExit) as error:
            log.error("on_worker_stop failed: %s: %s; leaving", type(error).__name__, error, exc_info=error)


def _find(name: str, server: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the server's own method, then the handler class's, which is called with the server."""
    if hasattr(type(server), name):
        yield getattr(server, name), ()
    handler = getattr(server, "RequestHandlerClass", None)
    handler = getattr(handler, "func", handler)  # of a functools.partial
    if hasattr(handler, name):
        yield getattr(handler, name), (server,)
