"""The server as its clients see it, on every kind of listener."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.support.clients import LineClient, ask_once, connect, eventually

STREAMS = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "unix:socket", "unix:@prefork-process-stream"]
DATAGRAMS = ["udp://127.0.0.1:0", "udp://[::1]:0", "unixgram:socket", "unixgram:@prefork-process-datagram"]


@pytest.mark.parametrize("bind", STREAMS)
def test_a_stream_is_served(serve: Serve, project: Path, monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    monkeypatch.chdir(project)
    with serve(bind=[bind]) as server:
        assert ask_once(server.address, "echo hello") == "hello"


@pytest.mark.parametrize("bind", DATAGRAMS)
def test_a_datagram_is_answered(serve: Serve, project: Path, monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    monkeypatch.chdir(project)
    with serve(target="app:Datagrams", bind=[bind]) as server, datagram_client(bind, project) as client:
        client.connect(server.address)
        client.send(b"hello")

        assert client.recv(100) == b"1 hello"


def datagram_client(bind: str, project: Path) -> socket.socket:
    family = socket.AF_UNIX if bind.startswith("unix") else socket.AF_INET6 if "[" in bind else socket.AF_INET
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(30)
    if family == socket.AF_UNIX:
        client.bind(str(project / "client"))  # without a name nobody could answer
    return client


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_datagram_to_one_of_many_addresses_is_answered_from_there(serve: Serve, project: Path, host: str) -> None:
    with serve(target="app:Datagrams", bind=[f"udp://{host}:0"]) as server:
        for asked in ("127.0.0.1", "127.0.0.2"):
            with datagram_client("udp", project) as client:
                client.connect((asked, server.address[1]))  # and so hears nobody else
                client.send(b"hello")

                assert client.recv(100) == b"1 hello"


def test_one_handler_serves_several_listeners(serve: Serve, project: Path) -> None:
    path = str(project / "socket")
    with serve(bind=["tcp://127.0.0.1:0", f"unix:{path}"]) as server:
        assert [ask_once(address, "echo x") for address in server.addresses] == ["x", "x"]
    assert not os.path.exists(path)


def test_every_worker_serves(serve: Serve) -> None:
    with serve(workers=3) as server, ExitStack() as held:
        pids: set[str] = set()

        def all_have_served() -> bool:
            pids.update(held.enter_context(LineClient(server.address)).ask("pid") for _ in range(20))
            return pids == {str(worker["pid"]) for worker in server.workers()}

        eventually(all_have_served)


def test_a_worker_without_a_free_thread_leaves_the_connection_to_another(serve: Serve) -> None:
    with serve(workers=2, threads=2) as server:
        held = [LineClient(server.address) for _ in range(4)]

        assert sorted([client.ask("slot") for client in held]) == ["0", "0", "1", "1"]
        for client in held:
            client.close()


def test_a_connection_waits_until_a_thread_is_free(serve: Serve) -> None:
    with serve(workers=1, threads=1) as server:
        with LineClient(server.address) as first, LineClient(server.address) as second:
            assert first.ask("echo 1") == "1"
            second.send("echo 2")
            first.close()

            assert second.ask("echo 3") == "2"


@pytest.mark.fault("exception")
def test_a_handler_that_raises_ends_its_connection_only(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as other:
        pid = other.ask("pid")
        with LineClient(server.address) as client:
            peer = ":".join(map(str, client._socket.getsockname()))
            client.send("raise the reason")
            client.wait_for_end()

        assert other.ask("pid") == pid
        assert peer in server.wait_for_log("the reason")
        eventually(lambda: server.status()["totals"]["failed"] == 1)


@pytest.mark.fault("crash")
def test_a_handler_that_exits_ends_its_connection_only(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as other:
        pid = other.ask("pid")
        with LineClient(server.address) as client:
            client.send("sysexit 3")
            client.wait_for_end()

        assert other.ask("pid") == pid


def test_a_descriptor_opened_by_another_program_is_served(project: Path, serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        with serve(bind=[f"fd://{passed.fileno()}"], pass_descriptors=(passed.fileno(),)) as server:
            assert server.address == passed.getsockname()
            assert ask_once(server.address, "echo hello") == "hello"


SERVICE_MANAGER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="lines", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_with(passed: socket.socket, project: Path, *binds: str) -> subprocess.Popen[str]:
    """Start the server as a service manager does that passes this socket with the name `lines`."""
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "2"]
    command += [f"--bind={bind}" for bind in binds]
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE_MANAGER, str(passed.fileno()), *command],
        cwd=project,
        pass_fds=[passed.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sockets_of_the_service_manager_are_served_by_name(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        server = start_with(passed, project, "systemd:lines")
        assert server.stderr is not None
        next(line for line in server.stderr if " ready: " in line)
        with LineClient(passed.getsockname()) as client:
            assert client.ask("eval [name for name in os.environ if name.startswith('LISTEN')]") == "[]"
        server.terminate()
        server.stderr.read()
        assert server.wait(30) == 0
        server.stderr.close()

        waiting = connect(passed.getsockname())  # the socket is the service manager's, and goes on listening
        waiting.close()


def test_sockets_of_the_service_manager_that_nobody_serves_are_warned_about(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        server = start_with(passed, project, "tcp://127.0.0.1:0")
        assert server.stderr is not None
        log = []
        for line in server.stderr:
            log.append(line)
            if " ready: " in line:
                server.terminate()
        server.stderr.close()

        assert server.wait(30) == 0
        assert any("passed sockets not served" in line and "lines" in line for line in log)


def test_a_socket_of_the_service_manager_is_not_served_under_two_names(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        server = start_with(passed, project, "systemd:", "systemd:lines")
        _, complaint = server.communicate(timeout=60)

        assert server.returncode == 4
        assert complaint == "prefork: cannot bind systemd:lines: systemd: has that socket, too; leave one out\n"


def test_the_environment_and_the_title_say_who_a_worker_is(serve: Serve) -> None:
    with serve(workers=2, env={"COLOUR": "blue"}, name="shop") as server, LineClient(server.address) as client:
        assert client.ask("generation") == "1"
        assert client.ask("eval os.environ['COLOUR']") == "blue"
        title = Path(f"/proc/{client.ask('pid')}/cmdline").read_bytes().rstrip(b"\0 ").decode()
        assert title == f"prefork: worker {client.ask('slot')} gen 1 [shop]"


@pytest.mark.fault("leaks")
def test_a_worker_holds_no_descriptor_of_its_siblings(serve: Serve) -> None:
    with serve(workers=3) as server:
        directories = [f"/proc/{worker['pid']}/fd" for worker in server.workers()]

        # With each beat one more is open for a moment; what one that starts later has inherited stays.
        eventually(lambda: len({len(os.listdir(directory)) for directory in directories}) == 1)
        eventually(lambda: max(len(os.listdir(directory)) for directory in directories) <= 16)


def test_a_worker_has_no_handler_of_the_master_for_its_children(serve: Serve) -> None:
    with serve(workers=1) as server:
        assert ask_once(server.address, "eval signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL") == "True"


@pytest.mark.fault("leaks")
def test_a_program_started_by_a_handler_inherits_no_listener_and_no_channel(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        binds = ["tcp://127.0.0.1:0", f"fd://{passed.fileno()}"]
        with serve(bind=binds, workers=1, pass_descriptors=[passed.fileno()]) as server:
            count = "eval os.system('exit $(ls -l /proc/self/fd | grep -Ec \"socket:|memfd:\")')"

            assert ask_once(server.addresses[0], count) == "0"


def test_a_socket_file_has_the_mode_that_was_asked_for(serve: Serve, project: Path) -> None:
    with serve(bind=[f"unix:{project}/socket?mode=0666"]) as server:
        assert os.stat(project / "socket").st_mode & 0o777 == 0o666
        connect(server.address).close()
