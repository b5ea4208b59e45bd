"""The scoreboard: shared memory in which each worker shows what it does, without asking anybody.

One board per generation, an anonymous mmap inherited through the forks: for each slot a worker row (its beat) and
`threads` + 1 thread rows. Every row has exactly one writer, so nothing is locked: the worker row is written by the
worker's main thread, a thread row by the thread that holds it, the last one by the foreign servers of the worker
together (under their lock). Readers may see a row in the middle of a change. What is counted lies beside the rows, in
the same order (`TallyBoard`).
Untouched pages cost nothing, so the board has room for every slot there can ever be; it goes with its last reference.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prefork.address import format_peer
from prefork.ipc.loads import Loads, WorkerLoad
from prefork.ipc.tallies import Tally, TallyBoard, TallyRows

BEAT_INTERVAL = 0.5  # seconds between two beats of an idle worker's main thread

_BEAT = struct.Struct("=d")
_MEMORY = struct.Struct("=Q")
_MEMORY_AT, _PROPORTIONAL_AT = 8, 16
_WORKER_ROW_BYTES = 64
_THREAD_ROW_BYTES = 192
# Of the present request: peer and tag as text (what is too long is cut off), its listener, the thread's identity, until
# when it may take at least (0: no longer than any), and, last, since when it is served (0: the row is idle). Then, how
# many connections this row has parked more than it took up again.
_REQUEST = struct.Struct("=64p64pI4xQdd")
_TEXT = struct.Struct("=64p")
_TAG_AT, _EXTENDED_AT, _SINCE_AT, _PARKED_AT = 64, 144, 152, 160


# What a row's connection is served as: as a whole; or message by message, and one is being served, or none.
_THE_CONNECTION, _A_MESSAGE, _NOTHING = range(3)


@dataclass(frozen=True, slots=True)
class Request:
    """What a thread serves at this moment."""

    peer: str
    tag: str
    listener: int
    since: float
    row: int = 0
    thread: int = 0  # its identity; 0 for a foreign server's
    extended_until: float = 0.0

    def deadline(self, timeout: float) -> float:
        """Return until when it may take, if none may take longer than `timeout` without saying so."""
        return max(self.since + timeout, self.extended_until)

    def in_words(self, listeners: Sequence[str], now: float) -> str:
        """Say who is served, where, what for and since when."""
        where = f" at {listeners[self.listener]}" if self.listener < len(listeners) else ""
        tag = f", tag {self.tag!r}" if self.tag else ""
        return f"{self.peer}{where}{tag}, for {now - self.since:.3g} s"


class Scoreboard:
    """All rows of a generation; made by the master before it forks the mold."""

    def __init__(self, slots: int, threads: int, listeners: Sequence[str]) -> None:
        self.threads = threads
        self._tallies = TallyBoard(slots, threads + 1, listeners)
        self._slot_bytes = _size(threads)
        self._memory = mmap.mmap(-1, slots * self._slot_bytes, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._loads = Loads(slots)

    def worker(self, slot: int) -> WorkerRows:
        """Return the rows of a slot."""
        rows = self._tallies.slot(slot)
        return WorkerRows(self._memory, slot * self._slot_bytes, self.threads, rows, self._loads.worker(slot))


class WorkerRows:
    """The rows of one slot: written in the worker, read in the master."""

    def __init__(self, memory: mmap.mmap, start: int, threads: int, tallies: TallyRows, load: WorkerLoad) -> None:
        self._memory = memory
        self._tallies = tallies
        self._start = start
        self._row_at = range(start + _WORKER_ROW_BYTES, start + _size(threads), _THREAD_ROW_BYTES)
        # The same words of all thread rows, to be read at one go: there may be thousands of rows, and few at work.
        rows = memoryview(memory)[self._row_at.start : self._row_at.stop]
        self._extended = rows.cast("d")[_EXTENDED_AT // 8 :: _THREAD_ROW_BYTES // 8]
        self._since = rows.cast("d")[_SINCE_AT // 8 :: _THREAD_ROW_BYTES // 8]
        self._parked = rows.cast("q")[_PARKED_AT // 8 :: _THREAD_ROW_BYTES // 8]
        self.threads = threads
        # In the worker, for each row: what there is to be timed when its connection closes, and where that came from.
        self._timed = [_THE_CONNECTION] * (threads + 1)
        self._listener = [0] * (threads + 1)
        self.load = load
        # Called for each connection, so without a step in between: show the other workers how much is being served
        # (under the pool's lock), and say who should rather take the next connection.
        self.load_changed = load.change
        self.less_busy = load.less_busy

    def clear(self) -> None:
        """Forget the slot's former worker; called by the master before it orders the next one."""
        size = _size(self.threads)
        self._memory[self._start : self._start + size] = bytes(size)
        self.load.clear()
        self._tallies.clear()

    def beat(self) -> None:
        """Say that the main thread can still obey (worker's main thread only)."""
        _BEAT.pack_into(self._memory, self._start, time.monotonic())

    def last_beat(self) -> float | None:
        """Return the time of the last beat, or None before the first."""
        beat: float = _BEAT.unpack_from(self._memory, self._start)[0]
        return beat or None

    def show_memory(self, resident_bytes: int) -> None:
        """Say how much memory the worker has (worker's main thread only)."""
        _MEMORY.pack_into(self._memory, self._start + _MEMORY_AT, resident_bytes)

    def memory(self) -> int:
        """Return the resident bytes as last said; 0 if never."""
        size: int = _MEMORY.unpack_from(self._memory, self._start + _MEMORY_AT)[0]
        return size

    def show_proportional_memory(self, proportional_bytes: int) -> None:
        """Say what the worker's share of its memory is (worker's main thread only)."""
        _MEMORY.pack_into(self._memory, self._start + _PROPORTIONAL_AT, proportional_bytes)

    def proportional_memory(self) -> int:
        """Return the worker's share as last said; 0 if never."""
        size: int = _MEMORY.unpack_from(self._memory, self._start + _PROPORTIONAL_AT)[0]
        return size

    def opened(self, row: int, listener: int, client_address: object) -> None:
        """Count a connection and show whom the thread serves (the thread of that row only)."""
        self._show(row, listener, client_address, _THE_CONNECTION)
        self._tallies.opened(row, listener)

    def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
        """Count the end of what the thread served (the thread of that row only).

        `listener` and `since` say which request it was, if the row has several at a time.
        """
        if since is None or listener is None:
            since, listener = self._since[row], self._listener[row]
        self._since[row] = 0.0
        seconds = time.monotonic() - since if self._timed[row] != _NOTHING else None
        self._tallies.closed(row, listener, failed, seconds)

    def identified(self, row: int, client_address: object) -> None:
        """Show that the thread serves somebody else than it seemed (the thread of that row only)."""
        _TEXT.pack_into(self._memory, self._row_at[row], format_peer(client_address).encode())

    def refused(self, row: int, listener: int | None = None) -> None:
        """Count a connection that is closed without being served (the thread of that row only)."""
        self._tallies.refused(row, self._listener[row] if listener is None else listener)

    def parked(self, row: int) -> None:
        """Show that what the thread served waits for its client, without a thread (the thread of that row only)."""
        self._since[row] = 0.0
        self._parked[row] += 1

    def resumed(self, row: int, listener: int, client_address: object, kept: object = None) -> None:
        """Show whom the thread serves again (the thread of that row only)."""
        self._show(row, listener, client_address, _NOTHING)
        self._parked[row] -= 1

    def handed_over(self, row: int) -> None:
        """Count that another worker has what the thread took up for that (the thread of that row only)."""
        self._since[row] = 0.0
        self._tallies.handed_over(row, self._listener[row])

    def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
        """Count a parked connection of another worker and show it (the thread of that row only)."""
        self._show(row, listener, client_address, _NOTHING)
        self._tallies.taken_over(row, listener)

    def message_began(self, row: int) -> None:
        """Show since when the present message is served (the thread of that row only)."""
        self._extended[row] = 0.0  # what the last one was given is not this one's
        self._since[row] = time.monotonic()
        self._timed[row] = _A_MESSAGE

    def message_ended(self, row: int, served: bool = True) -> None:
        """Note that the present message has been served, or was none (the thread of that row only)."""
        if served:
            self._tallies.took(row, self._listener[row], time.monotonic() - self._since[row])
        self._timed[row] = _NOTHING

    def tagged(self, row: int, text: str) -> None:
        """Show a text of the application beside the present request (the thread of that row only)."""
        _TEXT.pack_into(self._memory, self._row_at[row] + _TAG_AT, text.encode(errors="replace"))

    def extended(self, row: int, seconds: float) -> None:
        """Let the present request take at least so long from now on (the thread of that row only)."""
        self._extended[row] = time.monotonic() + seconds

    def _show(self, row: int, listener: int, client_address: object, timed: int) -> None:
        self._timed[row] = timed
        self._listener[row] = listener
        peer, thread = format_peer(client_address).encode(), threading.get_ident() if row < self.threads else 0
        _REQUEST.pack_into(self._memory, self._row_at[row], peer, b"", listener, thread, 0.0, time.monotonic())

    def tallies(self) -> dict[str, Tally]:
        """Add up what all threads have counted, by the address of the listener."""
        return self._tallies.read()

    def total(self) -> Tally:
        """Add up what all threads have counted of all listeners."""
        return sum(self.tallies().values(), Tally())

    def count_parked(self) -> int:
        """Add up how many connections are parked: one row parks a connection, another may take it up again."""
        return max(0, sum(self._parked.tolist()))

    def count_busy(self) -> int:
        """Return how many rows serve somebody now."""
        return sum(_is_time(since) for since in self._since.tolist())

    def requests(self, most: int | None = None, begun_by: float = math.inf) -> list[Request]:
        """Return what the threads serve now, and the latest of the foreign servers, the longest first.

        `most` and `begun_by` (a time) leave out the shorter ones, which saves reading them.
        """
        rows = enumerate(self._since.tolist())
        busy = sorted((since, row) for row, since in rows if _is_time(since) and since <= begun_by)
        found = []
        for _, row in busy[:most]:
            peer, tag, listener, thread, until, since = _REQUEST.unpack_from(self._memory, self._row_at[row])
            if _is_time(since):  # still, perhaps of another one
                found.append(Request(_text(peer), _text(tag), listener, since, row, thread, until))
        return sorted(found, key=lambda request: request.since)

    def labels(self, listeners: Sequence[str], now: float) -> dict[int, str]:
        """Say of each thread, by its identity, which row it has and whom it serves."""
        serving = [request for request in self.requests() if request.thread]
        return {one.thread: f"row {one.row}, serves {one.in_words(listeners, now)}" for one in serving}


def _size(threads: int) -> int:
    """Return the bytes of a slot."""
    return _WORKER_ROW_BYTES + (threads + 1) * _THREAD_ROW_BYTES


def _is_time(since: float) -> bool:
    """Tell whether a row serves somebody; what the application scribbles there is no time."""
    return 0.0 < since < math.inf


def _text(field: bytes) -> str:
    return field.decode(errors="replace")
