"""The ledger: shared memory in which every worker counts its open connections, so that limits hold for all together.

One ledger for the life of the server, whatever the generation: a slot has one living worker at most. For each slot an
account with one writer, the worker under its own lock; the master clears it when the worker has gone. Nothing is locked
between processes. A worker writes first and reads the others afterwards, so of two that come at the same time at least
one sees both. Whoever gives something back rings the bell if somebody waits for it.
"""

from __future__ import annotations

import mmap
import os

from prefork.ipc.bell import Bell

_WORD = 8  # bytes; every cell is one aligned word, written in one step
_TOP = 0  # the word with the number of slots that were ever used
_ACCOUNTS = 8  # where the accounts begin, in words
_ACCOUNT = 8  # words of an account, a cache line
_OPEN, _WAITING, _HAS_PEERS = range(3)
_BUCKETS = 256
_CELLS = 8  # in a bucket
_BUCKET = 2 * _CELLS  # words: a fingerprint (0: free) and a count in each cell


class Ledger:
    """All accounts; made by the master before it forks the first mold."""

    def __init__(self, slots: int) -> None:
        self._peers = _ACCOUNTS + slots * _ACCOUNT  # where the buckets begin
        size = self._peers + slots * _BUCKETS * _BUCKET
        memory = mmap.mmap(-1, size * _WORD, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._words = memoryview(memory).cast("Q")
        self.bell = Bell()
        self.key = os.urandom(16)  # of the fingerprints: nobody outside can aim at a bucket

    def account(self, slot: int) -> Account:
        """Return the account of a slot."""
        return Account(self._words, slot, self._peers, self.bell)

    def clear(self, slot: int) -> None:
        """Forget the slot's former worker, and count the slot as one that is used (master only)."""
        words, start, peers = self._words, _ACCOUNTS + slot * _ACCOUNT, self._peers + slot * _BUCKETS * _BUCKET
        if words[start + _HAS_PEERS]:  # else the pages of its buckets need not exist
            size = _BUCKETS * _BUCKET
            words[peers : peers + size] = memoryview(bytes(size * _WORD)).cast("Q")
        words[start : start + _ACCOUNT] = memoryview(bytes(_ACCOUNT * _WORD)).cast("Q")
        words[_TOP] = max(words[_TOP], slot + 1)
        self.bell.ring()

    def total(self) -> int:
        """Return how many connections are open, as far as workers with a limit have counted them."""
        return self.account(0).total()

    def close(self) -> None:
        """Close this process's copy of the bell."""
        self.bell.close()


class Account:
    """What one worker has open: written in the worker under a lock of its own, read by everybody."""

    def __init__(self, words: memoryview[int], slot: int, peers: int, bell: Bell) -> None:
        self.slot = slot
        self._bell = bell
        self._words = words
        self._start = _ACCOUNTS + slot * _ACCOUNT
        self._peers = peers

    def fileno(self) -> int:
        """Return the descriptor of the bell."""
        return self._bell.fileno()

    def add(self, change: int) -> None:
        """Count connections that begin or end."""
        self._words[self._start + _OPEN] += change

    def total(self) -> int:
        """Return what all workers have open."""
        return sum(self._words[_ACCOUNTS + _OPEN : _end(self._words) : _ACCOUNT])

    def wait_for_room(self, waiting: bool) -> None:
        """Say whether this worker wants to hear the bell when somebody gives something back."""
        self._words[self._start + _WAITING] = waiting

    def ring_if_awaited(self) -> None:
        """Wake those who wait for room; called after something was given back."""
        if any(self._words[_ACCOUNTS + _WAITING : _end(self._words) : _ACCOUNT]):
            self._bell.ring()

    def add_peer(self, fingerprint: int, change: int) -> None:
        """Count a connection of a peer. One whose bucket is full of others goes uncounted: nobody else pays for it."""
        self._words[self._start + _HAS_PEERS] = 1
        start = self._bucket(self.slot, fingerprint)
        fingerprints = self._words[start : start + _BUCKET : 2].tolist()
        if fingerprint in fingerprints:
            cell = start + 2 * fingerprints.index(fingerprint)
            self._words[cell + 1] += change
            if not self._words[cell + 1]:
                self._words[cell] = 0
        elif change > 0 and 0 in fingerprints:
            cell = start + 2 * fingerprints.index(0)
            self._words[cell + 1] = change  # before the fingerprint: who reads meanwhile finds it free
            self._words[cell] = fingerprint

    def peer_total(self, fingerprint: int) -> int:
        """Return what a peer has open with all workers."""
        total = 0
        slots = (self._peers - _ACCOUNTS) // _ACCOUNT
        for slot in range(min(self._words[_TOP], slots)):  # which a worker gone wild may have written, too
            start = self._bucket(slot, fingerprint)
            cells = self._words[start : start + _BUCKET].tolist()
            if fingerprint in cells[::2]:
                total += cells[2 * cells[::2].index(fingerprint) + 1]
        return total

    def _bucket(self, slot: int, fingerprint: int) -> int:
        return self._peers + (slot * _BUCKETS + fingerprint % _BUCKETS) * _BUCKET


def _end(words: memoryview[int]) -> int:
    """Return where the accounts of the slots that were ever used end."""
    return _ACCOUNTS + words[_TOP] * _ACCOUNT
