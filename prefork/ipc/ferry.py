"""The ferry: by it parked connections go from a worker that leaves to one that serves on.

One pair of sockets for the life of the server, made by the master and inherited like a listener, so it outlives every
worker and generation: what is on the way is lost with none of them. Whoever accepts reads from it. One packet is one
connection: its descriptor (SCM_RIGHTS), and what must be known of it. Beside it lies shared memory in which each worker
that reads shows how many it has parked, so that they go to whoever has fewest. docs/protocols.md has the layout.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from prefork.ipc.channel import descriptors_in, make_pair

_PACKET_BYTES = 65536
_WORD_BYTES = 8
_SLOTS = 0  # the word that says how many slots have ever been used; the master's
_ONE_DESCRIPTOR = socket.CMSG_LEN(array("i").itemsize)


class Passenger(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What goes along with a connection."""

    listener: str
    """The address that it was accepted at."""
    client_address: Any
    """As accept() gave it, str or bytes, or what it gives as a tuple as a list of str and int."""
    opened_at: float
    """By CLOCK_MONOTONIC, in seconds."""
    state: bytes
    """What its handler gave."""
    proxy_header: dict[str, Any] | None = None
    """What a proxy said about it."""


class FerryError(Exception):
    """It cannot take this passenger, now or ever; the text says why. Or a packet that came was none."""


class Ferry:
    """Both ends, of which every process of the server has a copy. Nothing here waits."""

    def __init__(self, slots: int, passed: Sequence[int] = ()) -> None:
        """Make one, or have the one that was passed on by the master before us."""
        memory = mmap.mmap(-1, (slots + 1) * _WORD_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._words = memoryview(memory).cast("Q")
        self._far, self._near = map(_open, passed) if passed else make_pair()
        for end in (self._far, self._near):
            end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable while somebody is on the way."""
        return self._far.fileno()

    def sending_end(self) -> int:
        """Return the descriptor that is writable while there is room for another one."""
        return self._near.fileno()

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a process must not close that is to have it."""
        return self._far.fileno(), self._near.fileno()

    def clear(self, slot: int) -> None:
        """Note that the slot's worker does not read: it is new, or has gone (master only)."""
        self._words[_SLOTS] = max(self._words[_SLOTS], slot + 1)
        self._words[1 + slot] = 0

    def show(self, slot: int, parked: int | None) -> None:
        """Show how many the slot's worker has parked; None: it does not read any more. Written by that worker only."""
        self._words[1 + slot] = 0 if parked is None else 1 + parked

    def fewest(self, slot: int) -> int | None:
        """Return how many the one that has fewest has parked, of the others that read; None if there is none."""
        shown = self._words[1 : 1 + self._words[_SLOTS]].tolist()
        return min((one - 1 for index, one in enumerate(shown) if one and index != slot), default=None)

    def send(self, passenger: Passenger, descriptor: int) -> bool:
        """Send a connection on its way; False: there is no room now. Raise FerryError if there never will be."""
        packet = _encode(passenger)
        if len(packet) > _PACKET_BYTES:
            raise FerryError(f"its state has {len(passenger.state)} bytes, which is too much")
        try:
            socket.send_fds(self._near, [packet], [descriptor])
        except BlockingIOError:
            return False
        except OSError as error:
            raise FerryError((error.strerror or str(error)).lower()) from error
        return True

    def receive(self) -> tuple[Passenger, socket.socket] | None:
        """Return the next one, if there is one.

        Raise OSError, with nothing lost, while this process has no room for a descriptor, or if nothing will ever come;
        FerryError if what came was no passenger.
        """
        # A descriptor for which there is no room is lost (unix(7)), so it is asked for before anything is received.
        os.close(os.dup(self._far.fileno()))
        try:
            packet, ancillary, _, _ = self._far.recvmsg(_PACKET_BYTES, _ONE_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        found = descriptors_in(ancillary)
        if not packet and not found:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))  # some process of the server has done that
        if not found:
            raise FerryError("a packet came without one: perhaps this process had no room for its descriptor")
        connection = socket.socket(fileno=found[0])
        try:
            return _decoder.decode(packet), connection
        except msgspec.MsgspecError as error:
            connection.close()
            raise FerryError(f"{len(packet)} bytes came that are no connection: {error}") from error

    def close(self) -> None:
        """Close this process's copies. What is on the way goes on as long as another process has some."""
        self._far.close()
        self._near.close()


def _open(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


_decoder = msgspec.msgpack.Decoder(Passenger)


def _encode(passenger: Passenger) -> bytes:
    try:
        return msgspec.msgpack.encode(passenger)
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise FerryError(f"what is known of it cannot be written down: {error}") from error
