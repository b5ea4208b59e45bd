"""One end of a message pair: packets in, packets out, never waiting.

The other end may be slow, dead or hostile, so reading is bounded, a packet that does not decode is `ChannelBroken`,
and descriptors that nobody expects are dropped by the kernel.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from prefork.ipc.messages import PACKET_BYTES, Message, encode

Incoming = TypeVar("Incoming")
_PACKETS_AT_ONCE = 64


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

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send one message, with a descriptor if given. Raise ChannelBroken if the other end does not take it."""
        try:
            if descriptor is None:
                self._end.send(encode(message))
            else:
                socket.send_fds(self._end, [encode(message)], [descriptor])
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise ChannelBroken(f"cannot send {type(message).__name__}: {reason}") from error

    def receive_all(self) -> Iterator[tuple[Incoming, int | None]]:
        """Yield the messages that are there, each with the descriptor that came with it."""
        while (received := self.receive_with_descriptor()) is not None:
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

    def receive_with_descriptor(self) -> tuple[Incoming, int | None] | None:
        """Return one message and the descriptor that came with it, or None if none is there."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._end, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            packet = b""
            descriptors = []
        if not packet:
            self.closed_by_peer = True
            return None
        return self._decode(packet), (descriptors[0] if descriptors else None)

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


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new pair, closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
