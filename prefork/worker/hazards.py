"""What makes a process that has loaded an application unfit to be forked from.

A forked child has only the thread that forked: locks held by the others stay locked for ever. Sockets and epoll
descriptors opened by the import would be shared by all workers, so that they read each other's answers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

_SHARED_KINDS = ("socket:", "anon_inode:[eventpoll]", "anon_inode:[io_uring]", "anon_inode:[timerfd]")


def open_descriptors() -> dict[int, str]:
    """Return the descriptors of this process and what each is (`socket:[123]`); empty where /proc is hidden."""
    found = {}
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return {}
    for name in names:
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def find_hazards(before: dict[int, str], listeners: Iterable[int]) -> list[str]:
    """Name what speaks against forking now: threads, and shared kinds of descriptors opened since `before`.

    `listeners` are descriptors of listeners: copies of those (adopted by a server instance) are meant to be shared.
    """
    after = open_descriptors()
    known = set(before.values()) | {after.get(listener, "") for listener in listeners}
    opened = [(number, what) for number, what in sorted(after.items()) if before.get(number) != what]
    return _other_threads() + [f"descriptor {number} ({what})" for number, what in opened if _is_shared(what, known)]


def _is_shared(what: str, known: set[str]) -> bool:
    # A socket has a number of its own, so a copy of a known one is recognised; all epoll descriptors look alike.
    return what.startswith(_SHARED_KINDS) and (what.startswith("anon_inode:") or what not in known)


def _other_threads() -> list[str]:
    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    try:
        tasks = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        tasks = [native_id for native_id in python if native_id is not None]
    return [f"thread {_thread_name(task, python)}" for task in sorted(tasks) if task != os.getpid()]


def _thread_name(task: int, python: dict[int | None, str]) -> str:
    if task in python:
        return repr(python[task])
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()!r} (of a native library)"
    except OSError:
        return f"{task}"
