"""Parked connections that go from one process to another: what a pool needs for it, and how they arrive.

They come through a ferry, which the pool's leader waits for as for one more listener: whoever leads takes one of them
up. The pool that leaves sends its own only when it has stopped taking any, so none comes back to it. Who has more
parked than another process gives that one a moment to take what comes, and does not rely on it.
"""

from __future__ import annotations

from time import monotonic

from prefork.serving.accepting import Intake, Rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from prefork.serving.conversation import Conversation
    from prefork.serving.limits import Admission
    from prefork.serving.parking import Parking

    class Ferry(Protocol):
        """Between processes whose servers are the same, or their successors. No method waits."""

        def fileno(self) -> int:
            """Return a descriptor that is readable while somebody waits to be taken over."""

        def sending_end(self) -> int:
            """Return a descriptor that is writable while there is room for one to be handed over."""

        def show(self, parked: int | None) -> None:
            """Show the other processes how many are parked here; None: none is taken over any more."""

        def fewest(self) -> int | None:
            """Return how many the one of them has parked that has fewest; None if nobody else takes any."""

        def send(self, conversation: Conversation, state: bytes) -> bool:
            """Say whether it is on its way. If not, it may `stay`: trying again would be in vain."""

        def receive(self) -> Conversation | None:
            """Return the next one, if there is one. Raise OSError if this process cannot have it now."""


_MOMENT = 0.02  # seconds
_SLACK = 64  # parked connections: those who have as many take turns, and nobody waits for the other all the time
ARRIVALS = -1
"""In the place of the index of a listener."""


class Arrivals(Intake):
    """What a pool takes over. Like a listener, but what comes from it has been accepted long ago."""

    def __init__(self, ferry: Ferry, parking: Parking, admission: Admission | None) -> None:
        self.ferry = ferry
        self._parking = parking
        self._left_to = -1  # how many that one had parked to which the last one was left
        self._unheeding = -1  # and how many one had that took nothing
        self._admission = admission
        self.descriptor = ferry.fileno()
        self.index = ARRIVALS
        self.datagrams = self.may_have_more = False
        self.finishing = self.empty = self.exhausted = False
        self.rest = Rest()

    def begin_drain(self, finishing: bool) -> None:
        """Note whether those who are on the way are to be taken over first."""
        self.finishing = finishing

    def arrive(self) -> Conversation | None:
        """Return the next connection, counted as one of this process."""
        finishing = self.finishing
        self.exhausted = False
        if not finishing and self._is_left_to_another():
            self.exhausted = True
            self.rest.until = monotonic() + _MOMENT
            return None
        try:
            arrived = self.ferry.receive()
        except OSError as error:
            self.exhausted = True
            self.empty = finishing  # others have room, or nobody has
            self.rest.begin(error, "connections of other workers")
            return None
        if self.rest.until:
            self.rest.note_success("connections of other workers")
        if arrived is None:
            self.empty = finishing
        elif self._admission is not None:
            self._admission.take_over(arrived.accepted, arrived.client_address)
        return arrived

    def _is_left_to_another(self) -> bool:
        fewest = self.ferry.fewest()
        if fewest is None or len(self._parking) <= fewest + _SLACK or fewest == self._unheeding:
            return False
        if fewest == self._left_to:
            self._unheeding = fewest
            return False
        self._left_to = fewest
        return True
