"""One end of a message pair: packets in, packets out, never waiting.

The other end may be slow, dead or hostile, so reading is bounded, a packet that does not decode is `ChannelBroken`,
and descriptors that nobody expects are dropped by the kernel.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from prefork.ipc.messages import PACKET_BYTES, Message, encode

Incoming = TypeVar("Incoming")
_PACKETS_AT_ONCE = 64
_DESCRIPTORS_AT_ONCE = 2  # what comes beyond is dropped by the kernel


class ChannelBroken(Exception):
    """The other end sent something that is no message, or cannot be written to."""


class Channel(Generic[Incoming]):
    """Sends any message, receives those that its decoder knows. `closed_by_peer` is the other end's death."""

    def __init__(self, end: socket.socket, decoder: msgspec.msgpack.Decoder[Incoming]) -> None:
        end.setblocking(False)
        self._end = end
        self._decoder = decoder
        self.closed_by_peer = False

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._end.fileno()

    def send(self, message: Message, *descriptors: int) -> None:
        """Send one message, with descriptors if given. Raise ChannelBroken if the other end does not take it."""
        try:
            if descriptors:
                socket.send_fds(self._end, [encode(message)], descriptors)
            else:
                self._end.send(encode(message))
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise ChannelBroken(f"cannot send {type(message).__name__}: {reason}") from error

    def receive_all(self) -> Iterator[tuple[Incoming, list[int]]]:
        """Yield the messages that are there, each with the descriptors that came with it."""
        while (received := self._receive_with_descriptors()) is not None:
            yield received

    def receive(self) -> list[Incoming]:
        """Return the messages that are there. Raise ChannelBroken at one that is none."""
        received = []
        for _ in range(_PACKETS_AT_ONCE):
            packet = self._receive_packet()
            if packet is None:
                break
            received.append(self._decode(packet))
        return received

    def _receive_with_descriptors(self) -> tuple[Incoming, list[int]] | None:
        room = socket.CMSG_LEN(_DESCRIPTORS_AT_ONCE * array("i").itemsize)
        try:
            # Not by socket.recv_fds, which drops the flag: programs that a handler starts would have the descriptors.
            packet, ancillary, _, _ = self._end.recvmsg(PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            packet = b""
            ancillary = []
        if not packet:
            self.closed_by_peer = True
            return None
        return self._decode(packet), descriptors_in(ancillary)

    def _receive_packet(self) -> bytes | None:
        try:
            packet = self._end.recv(PACKET_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            packet = b""
        if not packet:
            self.closed_by_peer = True
            return None
        return packet

    def _decode(self, packet: bytes) -> Incoming:
        try:
            return self._decoder.decode(packet)
        except msgspec.MsgspecError as error:
            raise ChannelBroken(f"sent {len(packet)} bytes that are no message: {error}") from error

    def close(self) -> None:
        """Close this end; the other one reads its end of file."""
        self._end.close()


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a packet."""
    descriptors = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])  # cmsg(3): the rest was cut off
    return descriptors.tolist()


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new pair, closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
