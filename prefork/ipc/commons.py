"""What all processes of a server have in common for its whole life, whatever the generation."""

from __future__ import annotations

from collections.abc import Sequence

from prefork.ipc.claims import Claims
from prefork.ipc.ferry import Ferry
from prefork.ipc.ledger import Ledger


class Commons:
    """Made by the master before it forks the first mold, and inherited by every other process."""

    def __init__(self, slots: int, ferry: Sequence[int] = (), claims: Sequence[int] = ()) -> None:
        """Make it, for so many slots, of what was passed on by the master before us, if there was one."""
        self.ledger = Ledger(slots)
        self.ferry = Ferry(slots, ferry)
        self.claims = Claims(claims)

    @property
    def descriptors(self) -> set[int]:
        """What a process must not close that is to have it."""
        return {self.ledger.bell.fileno(), *self.ferry.descriptors, *self.claims.descriptors}

    def clear(self, slot: int) -> None:
        """Forget the slot's former worker, before it has a new one (master only)."""
        self.ledger.clear(slot)
        self.ferry.clear(slot)

    def bury(self, slot: int) -> None:
        """Forget the slot's worker, which has died, and have the others look what it left (master only)."""
        self.clear(slot)
        self.claims.ring()

    def close(self) -> None:
        """Close this process's copies."""
        self.ledger.close()
        self.ferry.close()
        self.claims.close()
