"""A worker that somebody else has taken over: it may say and write what it likes, master and siblings live on."""

import os
import signal
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import control
from tests.process.test_deaths import pids_of
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually

# What a taken-over worker does: it finds the channel and the scoreboard among what it has.
HOSTILE = """
import gc
import socket
import prefork.ipc.messages as messages


def sockets():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue


def channel():
    for found in sockets():
        if (found.family, found.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            found.setblocking(False)
            return found


def say(*packets):
    end = channel()
    for packet in packets:
        try:
            end.send(packet)
        except OSError:
            break


def scribble(byte):
    [rows] = [one for one in gc.get_objects() if type(one).__name__ == "WorkerRows"]
    rows._memory[:] = byte * len(rows._memory)
    rows._tallies._words.cast("B")[:] = byte * rows._tallies._words.nbytes


def steal():
    for found in sockets():
        if found.family == socket.AF_INET and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.setblocking(True)
            connection, _ = found.accept()
            connection.recv(100)
            connection.sendall(b"stolen\\n")
            return connection.close()


def descriptors_of(what):
    for name in os.listdir("/proc/self/fd"):
        try:
            if what in os.readlink(f"/proc/self/fd/{name}"):
                yield int(name)
        except OSError:
            continue


def claim_everything():
    import fcntl

    [claims] = descriptors_of("prefork-claims")
    fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1 << 40, 0)


def jam_bells():
    for descriptor in descriptors_of("[eventfd]"):
        try:
            os.eventfd_write(descriptor, 2**64 - 2)
        except BlockingIOError:
            pass
"""
SPOILING = """
from prefork.serving import MessageRequestHandler
from prefork.serving.poolthread import current_pool_thread


def shut(ferry):
    import socket

    ferry._near.shutdown(socket.SHUT_RDWR)


def fill(ferry):
    try:
        while True:
            ferry._near.send(b"nonsense")
    except BlockingIOError:
        pass


def scribble(ferry):
    ferry._words.cast("B")[:] = b"\\xff" * ferry._words.nbytes


class Spoiling(MessageRequestHandler):
    def handle_message(self):
        word, _, rest = self.rfile.readline().decode().strip().partition(" ")
        if word != "echo":
            {"shut": shut, "fill": fill, "scribble": scribble}[word](current_pool_thread().pool.ferry._ferry)
            rest = "done"
        self.wfile.write(f"{rest}\\n".encode())

    def hand_over(self):
        return b""

    def take_over(self, state):
        pass
"""
HELLO_OF_ANOTHER = "messages.encode(messages.Hello(os.getppid()))"


def lives(server: Server) -> None:
    """Return when two workers serve, and the master obeys."""
    eventually(lambda: len(server.workers()) == 2)
    server.reload()
    assert ask_once(server.address, "version") == "1"


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize(
    "packets",
    ["b'nonsense'", "os.urandom(60000)", "b''", "messages.encode(messages.Forked(1, 1))", "b'\\xdd' + b'\\xff' * 9"],
)
def test_nonsense_on_the_channel_costs_only_its_worker(serve: Serve, project: Path, packets: str) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2) as server:
        before = pids_of(server)
        with LineClient(server.address) as client:
            victim = int(client.ask("pid"))
            client.send(f"eval say({packets})")
            if packets != "b''":
                server.wait_for_log("killing worker: it sent")
                client.wait_for_end()
                eventually(lambda: victim not in pids_of(server))

        lives(server)
        assert victim in before


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize(
    "message",
    ["messages.Ready()", "messages.StoppedAccepting()", "messages.Failed('x' * 8000, 'y' * 8000)"],
)
def test_a_flood_of_messages_holds_nobody_up(serve: Serve, project: Path, message: str) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2) as server:
        with LineClient(server.address) as client:
            client.ask(f"eval say(*[messages.encode({message})] * 20000)")

        lives(server)


@pytest.mark.fault("compromised-worker")
def test_a_worker_that_claims_to_be_another_process_is_not_believed(serve: Serve, project: Path) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2) as server:
        pids = pids_of(server)
        with LineClient(server.address) as client:
            client.ask(f"eval say({HELLO_OF_ANOTHER})")

        assert pids_of(server) == pids
        lives(server)
        assert server.process.poll() is None


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize("byte", ["b'\\xff'", "b'\\x7f'", "b'\\x00'", "b'\\x01'"])
def test_a_scribbled_scoreboard_misleads_nobody_but_its_readers(serve: Serve, project: Path, byte: str) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2, heartbeat_timeout=4) as server:
        with LineClient(server.address) as client:
            client.ask(f"eval scribble({byte})")
        status = server.status()

        assert {worker["state"] for worker in status["workers"]} == {"serving"}
        lives(server)


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize("byte", ["b'\\xff'", "b'\\x80'", "b'\\x7f'"])
def test_the_death_of_a_worker_that_has_scribbled_can_be_shown(serve: Serve, project: Path, byte: str) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2) as server:
        with LineClient(server.address) as client:
            client.ask(f"eval scribble({byte})")
            while_it_lived = control(server, "status")
            client.send("abort")
            client.wait_for_end()
        server.wait_for_log("worker lost")
        afterwards = control(server, "status")

        assert (while_it_lived.returncode, while_it_lived.stderr) == (0, "")
        assert (afterwards.returncode, afterwards.stderr) == (0, "")
        assert "killed by SIGABRT" in afterwards.stdout
        lives(server)


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize("deed", ["shut", "fill", "scribble"])
def test_a_spoiled_ferry_leaves_connections_where_they_are(serve: Serve, project: Path, deed: str) -> None:
    write_application(project, extra=SPOILING)
    with serve("app:Spoiling", workers=2, threads=4) as server, LineClient(server.address) as client:
        assert client.ask("echo 1") == "1"
        with LineClient(server.address) as villain:
            assert villain.ask(deed) == "done"
        server.reload()

        assert client.ask("echo 2") == "2"
        with LineClient(server.address) as another:
            assert another.ask("echo 3") == "3"
        assert server.process.poll() is None


@pytest.mark.fault("compromised-worker")
@pytest.mark.parametrize("options", [{"limit_connections": 50}, {"bind": ["tcp://127.0.0.1:0?sockets=4"]}])
def test_bells_that_never_ring_again_hold_nobody_up_for_long(
    serve: Serve, project: Path, options: dict[str, object]
) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=2, **options) as server:
        with LineClient(server.address) as villain:
            villain.send("eval jam_bells()")
            victim = int(villain.ask("pid")) if villain.read() == "None" else 0
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in pids_of(server))

        lives(server)
        eventually(lambda: len({ask_once(server.address, "pid") for _ in range(100)}) == 2)


@pytest.mark.fault("compromised-worker")
def test_what_a_worker_claims_for_itself_is_free_when_it_has_gone(serve: Serve, project: Path) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=1, bind=["tcp://127.0.0.1:0?sockets=4"]) as server:
        assert ask_once(server.address, "eval claim_everything()") == "None"
        villain = int(ask_once(server.address, "pid"))
        server.scale(2)
        os.kill(villain, signal.SIGKILL)
        eventually(lambda: villain not in pids_of(server))

        eventually(lambda: len({ask_once(server.address, "pid") for _ in range(60)}) == 2)


def test_a_worker_can_take_connections_and_serve_them_badly_until_it_is_replaced(serve: Serve, project: Path) -> None:
    write_application(project, extra=HOSTILE)
    with serve(workers=1, threads=1) as server:
        with LineClient(server.address) as client:
            client.send("eval steal()")
            assert ask_once(server.address, "version") == "stolen"

        server.reload()
        assert ask_once(server.address, "version") == "1"
