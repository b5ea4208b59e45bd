"""Mix-ins that serve each request in a thread or a process of its own. Put them in front of a server class.

They keep no state but what they make when it is first needed: a class they are mixed into may have any constructor, and
set its attributes before or after calling ours. They also work in front of the standard library's servers.
"""

from __future__ import annotations

import os
import threading
from weakref import ref

from prefork.serving.children import open_watches, wait_for_any
from prefork.serving.wait import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class _Threads:
    """The threads that have not ended. The interpreter holds a running thread; here it is known weakly, and so is
    forgotten at its end without anybody looking for it."""

    def __init__(self) -> None:
        self._references: set[ref[threading.Thread]] = set()

    def append(self, thread: threading.Thread) -> None:
        if not thread.daemon:
            self._references.add(ref(thread, self._references.discard))

    def join(self) -> None:
        for thread in self:
            thread.join()

    def __iter__(self) -> Iterator[threading.Thread]:
        # Copied first, in one step: threads end meanwhile.
        threads = [reference() for reference in self._references.copy()]
        return iter([thread for thread in threads if thread is not None])

    def __len__(self) -> int:
        return len(self._references)


class _NoThreads:
    """Stands for `_Threads` until there is one to wait for."""

    def append(self, thread: threading.Thread) -> None:
        pass

    def join(self) -> None:
        pass


class ThreadingMixIn:
    """Serves each request in a new thread. With `block_on_close`, `server_close()` waits for threads not daemonic."""

    daemon_threads: bool = False
    block_on_close: bool = True
    _threads: _Threads | _NoThreads = _NoThreads()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the request, report its error and end it. Runs in the request's thread; may be overridden."""
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the request."""
        if self.block_on_close:
            vars(self).setdefault("_threads", _Threads())
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address))
        thread.daemon = self.daemon_threads
        self._threads.append(thread)
        thread.start()

    def server_close(self) -> None:
        """Close the listener first, then wait for the threads."""
        super().server_close()  # type: ignore[misc]  # the server class this is mixed into has it
        self._threads.join()

    if TYPE_CHECKING:

        def finish_request(self, request: Any, client_address: Any) -> None: ...
        def handle_error(self, request: Any, client_address: Any) -> None: ...
        def shutdown_request(self, request: Any) -> None: ...


if hasattr(os, "fork"):

    class ForkingMixIn:
        """Serves each request in a new process, at most `max_children` at a time.

        While there are as many, the listener is left out of the loop's wait, and connections wait in its queue. Only
        this server's own children are waited for. With `block_on_close`, `server_close()` waits for all of them.
        """

        timeout: float | None = 300
        active_children: set[int] | None = None
        max_children: int = 40
        block_on_close: bool = True

        def collect_children(self, *, blocking: bool = False) -> None:
            """Forget this server's children that have ended; with `blocking`, wait until all have."""
            for pid in tuple(self.active_children or ()):
                try:
                    ended, _ = os.waitpid(pid, 0 if blocking else os.WNOHANG)
                except ChildProcessError:
                    ended = pid  # somebody else has waited for it
                except OSError:
                    continue
                if self.active_children is not None:
                    self.active_children.discard(ended)

        def handle_timeout(self) -> None:
            """Collect children when no request has come for `timeout` seconds."""
            self.collect_children()

        def service_actions(self) -> None:
            """Collect children after every turn of the loop."""
            self.collect_children()
            if not hasattr(super(), "_hold_listener"):
                self._wait_below_limit()

        def process_request(self, request: Any, client_address: Any) -> None:
            """Fork a child for the request; the parent closes its copy."""
            pid = os.fork()
            if not pid:
                self._serve_and_exit(request, client_address)
            if self.active_children is None:
                self.active_children = set()
            self.active_children.add(pid)
            self.close_request(request)  # not shut down: that would end the child's connection

        def _serve_and_exit(self, request: Any, client_address: Any) -> None:
            """Serve the request in the child, which never returns into its parent's code."""
            status = 1
            try:
                self.finish_request(request, client_address)
                status = 0
            except Exception:
                self.handle_error(request, client_address)
            finally:
                try:
                    self.shutdown_request(request)
                finally:
                    os._exit(status)

        def server_close(self) -> None:
            """Close the listener first, then collect children."""
            super().server_close()  # type: ignore[misc]  # the server class this is mixed into has it
            self.collect_children(blocking=self.block_on_close)

        def _hold_listener(self) -> Hold | None:
            """Leave the listener out of the wait until one of a full number of children has ended."""
            if self._at_limit():
                self.collect_children()  # service_actions may have been overridden
            if not self._at_limit():
                hold: Hold | None = super()._hold_listener()  # type: ignore[misc]  # asked by our own servers only
                return hold
            return open_watches(self.active_children or ())

        def _wait_below_limit(self) -> None:
            """Block the standard library's loop, which cannot leave its listener out, as long as children are many."""
            while self._at_limit():
                wait_for_any(self.active_children or ())
                self.collect_children()

        def _at_limit(self) -> bool:
            return bool(self.active_children) and len(self.active_children or ()) >= self.max_children

        if TYPE_CHECKING:

            def finish_request(self, request: Any, client_address: Any) -> None: ...
            def handle_error(self, request: Any, client_address: Any) -> None: ...
            def shutdown_request(self, request: Any) -> None: ...
            def close_request(self, request: Any) -> None: ...
