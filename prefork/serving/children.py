"""Noticing that a child has ended without waiting for strangers' children.

On Linux each child has a descriptor (pidfd_open(2)) that becomes readable at its end. Elsewhere, and when no descriptor
is left, one looks again after a short while.
"""

from __future__ import annotations

import os
import selectors

from prefork.serving.wait import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LOOK_AGAIN = 0.5


def open_watches(pids: Iterable[int]) -> Hold:
    """Return a hold that is over when one of our children has ended."""
    descriptors: list[int] = []
    try:
        for pid in pids:
            descriptors.append(os.pidfd_open(pid))
    except (AttributeError, OSError):
        # No such call, no descriptor left, or the child is gone already because nobody need wait for it
        # (SIGCHLD ignored): those that are open do no harm.
        return Hold(LOOK_AGAIN, descriptors)
    return Hold(None, descriptors)


def wait_for_any(pids: Iterable[int]) -> None:
    """Block until one of our children has ended, or for a short while."""
    hold = open_watches(pids)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in hold.descriptors:
                selector.register(descriptor, selectors.EVENT_READ)
            selector.select(hold.seconds)
    finally:
        for descriptor in hold.descriptors:
            os.close(descriptor)
