"""The channel: what arrives is what was sent, and nonsense is said to be nonsense."""

import gc
import os
import socket
from collections.abc import Iterator

import pytest

from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken, make_pair

Ends = tuple[Channel[messages.FromWorker], socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = make_pair()
    with ours, theirs:
        yield Channel(ours, messages.from_worker), theirs


def test_messages_arrive_in_order_and_whole(ends: Ends) -> None:
    channel, theirs = ends
    sender = Channel(theirs, messages.to_worker)
    sent: list[messages.Message] = [
        messages.Hello(42),
        messages.Ready(),
        messages.Failed("no such module", "line\nline"),
    ]
    for message in sent:
        sender.send(message)

    assert channel.receive() == sent


def test_an_empty_channel_returns_nothing_and_is_not_closed(ends: Ends) -> None:
    channel, _ = ends

    assert channel.receive() == []
    assert not channel.closed_by_peer


def test_the_end_of_the_other_process_is_seen_after_its_last_words(ends: Ends) -> None:
    channel, theirs = ends
    Channel(theirs, messages.to_worker).send(messages.StoppedAccepting())
    theirs.close()

    assert channel.receive() == [messages.StoppedAccepting()]
    assert channel.closed_by_peer


@pytest.mark.parametrize(
    "packet",
    [b"\x00", b"nonsense", b"\x91\xa5Hello", messages.encode(messages.Drain(1.0, [])), b"\xff" * 65536],
    ids=["a number", "text", "a field missing", "a message of the other direction", "the largest packet"],
)
def test_nonsense_breaks_the_channel(ends: Ends, packet: bytes) -> None:
    channel, theirs = ends
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    theirs.send(packet)

    with pytest.raises(ChannelBroken, match="no message"):
        channel.receive()


def test_a_full_channel_says_so_instead_of_waiting(ends: Ends) -> None:
    channel, _ = ends

    with pytest.raises(ChannelBroken, match="cannot send Failed"):
        for _ in range(10_000):
            channel.send(messages.Failed("x" * 1000, ""))


def test_descriptors_travel_with_their_message() -> None:
    ours, theirs = make_pair()
    reader, writer = os.pipe()
    with ours, theirs:
        Channel(ours, messages.from_mold).send(messages.ForkWorker(7, 2), writer, reader)
        [(message, (writer_there, reader_there))] = Channel(theirs, messages.to_mold).receive_all()

        assert message == messages.ForkWorker(7, 2)
        assert not os.get_inheritable(writer_there)
        assert not os.get_inheritable(reader_there)
        os.write(writer_there, b"x")
        assert os.read(reader_there, 1) == b"x"
        for number in (reader, writer, writer_there, reader_there):
            os.close(number)


def test_descriptors_that_nobody_expects_are_dropped(ends: Ends) -> None:
    channel, theirs = ends
    gc.collect()  # what others forgot to close is not ours to count
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(theirs, [messages.encode(messages.Ready())], [0, 1, 2])

    assert channel.receive() == [messages.Ready()]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_long_text_keeps_its_end() -> None:
    shortened = messages.shorten("a" * 100_000 + "ValueError: the reason")

    assert len(shortened) < messages.PACKET_BYTES / 4
    assert shortened.endswith("ValueError: the reason")
