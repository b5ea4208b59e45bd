"""Stopping: in order, quickly, at once; and signals that must do no harm."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prefork.testing import Address
from tests.process.conftest import Serve
from tests.process.test_deaths import wait_for_end
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, connect, eventually, steady_load


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "unix:@prefork-test-stop"])
def test_a_stop_answers_every_connection_that_the_kernel_had_accepted(serve: Serve, bind: str) -> None:
    with serve(workers=2, threads=1, bind=[bind]) as server:
        holding = [LineClient(server.address) for _ in range(2)]
        for client in holding:
            client.ask("pid")
        queued = [connect(server.address) for _ in range(100)]
        for number, connection in enumerate(queued):
            connection.sendall(b"echo %d\n" % number)
            connection.shutdown(socket.SHUT_WR)
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining worker")
        for client in holding:
            client.close()

        for number, connection in enumerate(queued):
            assert connection.makefile("rb").read() == b"%d\n" % number
            connection.close()
        assert server.wait() == 0


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "unix:@prefork-test-stop-load"])
def test_a_stop_under_load_answers_or_refuses_and_never_resets(serve: Serve, bind: str) -> None:
    with serve(workers=2, bind=[bind]) as server, steady_load(server.address) as crowd:
        crowd.wait_for_more()
        assert server.stop() == 0
        crowd.wait_until_refused()

        assert {failure.partition("(")[0] for failure in crowd.failures} == {"ConnectionRefusedError"}


def test_a_stop_answers_every_datagram_that_the_kernel_had_taken(serve: Serve) -> None:
    with serve(workers=2, threads=2, bind=["udp://127.0.0.1:0"], target="app:Datagrams") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(server.address)
            burst = {b"%d" % index for index in range(150)}
            for text in burst:
                client.send(text)
            server.signal(signal.SIGTERM)

            assert {client.recv(100)[2:] for _ in burst} == burst
        assert server.wait() == 0


def test_an_open_connection_is_served_to_its_end(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        client.ask("pid")
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining worker")

        eventually(lambda: client.ask("draining") == "True")
        client.close()
        assert server.wait() == 0


def test_a_stopping_server_refuses_new_connections_while_it_serves_old_ones(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        client.ask("pid")
        address = server.address
        server.signal(signal.SIGTERM)
        server.wait_for_log("closed listener")

        wait_until_refused(address)
        assert client.ask("echo still here") == "still here"


def wait_until_refused(address: Address) -> None:
    """The listener is closed when its last holder, the mold, has died: a moment after the log says so."""
    with pytest.raises(ConnectionRefusedError):
        for _ in range(100):
            connect(address).close()


@pytest.mark.fault("leaks")
def test_a_stop_frees_the_port_though_a_program_of_a_handler_lives_on(serve: Serve) -> None:
    with serve(workers=1) as server:
        address = server.address
        silent = "stdin=-3, stdout=-3, stderr=-3"  # DEVNULL: the log ends when nobody has it any more
        program = int(ask_once(address, f"eval __import__('subprocess').Popen(['sleep', '600'], {silent}).pid"))
        try:
            assert server.stop() == 0
            assert Path(f"/proc/{program}/comm").read_text() == "sleep\n"
            with socket.create_server((str(address[0]), int(address[1]))):
                pass
        finally:
            os.kill(program, signal.SIGKILL)
            wait_for_end([program])


def test_a_connection_that_outstays_the_stop_is_cut(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=0.3) as server, LineClient(server.address) as client:
        client.ask("pid")
        server.signal(signal.SIGTERM)
        client.wait_for_end()

        assert server.wait() == 0


@pytest.mark.fault("stop-signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_cuts_connections_and_hung_handlers(serve: Serve, number: signal.Signals) -> None:
    with serve(workers=2) as server:
        clients = [LineClient(server.address) for _ in range(4)]
        for client in clients:
            client.ask("pid")
            client.send("eval __import__('threading').Event().wait()")
        server.signal(number)

        assert server.wait() == 0
        for client in clients:
            client.wait_for_end()
            client.close()


@pytest.mark.fault("stop-signals")
def test_a_second_order_hurries_the_first(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=300) as server, LineClient(server.address) as client:
        client.ask("pid")
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining worker")
        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        client.wait_for_end()


def test_a_worker_that_cannot_obey_is_killed_in_the_end(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=0.2, kill_timeout=0.2) as server:
        os.kill(server.workers()[0]["pid"], signal.SIGSTOP)
        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert "killing worker" in server.log


@pytest.mark.fault("stop-signals")
@pytest.mark.parametrize("preload", ["auto", "never"])
@pytest.mark.parametrize(
    "orders",
    [("SIGTERM",), ("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM"), ("SIGQUIT",)],
    ids=" then ".join,
)
def test_a_stop_during_the_start_is_obeyed(serve: Serve, project: Path, preload: str, orders: tuple[str, ...]) -> None:
    write_application(project, extra="\nprint('loading', file=sys.stderr)\nsignal.pause()\n")
    with serve(workers=2, preload=preload, kill_timeout=1, wait_until_ready=False) as server:
        server.wait_for_log("loading")
        for order in orders:
            server.signal(signal.Signals[order])

        assert server.wait() == 0


@pytest.mark.fault("leaving-pod")
def test_drain_delay_goes_on_serving_first(serve: Serve) -> None:
    with serve(workers=1, drain_delay=300) as server:
        server.signal(signal.SIGTERM)
        server.wait_for_log("stopping")

        assert ask_once(server.address, "echo x") == "x"
        assert server.status()["ready"] is False
        assert server.stop(quick=True) == 0


def test_a_stop_goes_on_when_drain_delay_is_over(serve: Serve) -> None:
    with serve(workers=1, drain_delay=1) as server:
        began = time.monotonic()
        server.signal(signal.SIGTERM)

        assert server.wait() == 0
        assert time.monotonic() - began >= 1


HARMLESS = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
]


@pytest.mark.fault("group-signal")
@pytest.mark.parametrize("number", HARMLESS)
def test_signals_meant_for_the_master_do_a_worker_no_harm(serve: Serve, number: signal.Signals) -> None:
    with serve(workers=2) as server, LineClient(server.address) as client:
        pids = {worker["pid"] for worker in server.workers()}
        for pid in pids:
            os.kill(pid, number)

        assert client.ask("echo x") == "x"
        assert {worker["pid"] for worker in server.workers()} == pids


def test_a_worker_told_to_leave_drains_and_is_replaced(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        pid = int(client.ask("pid"))
        os.kill(pid, signal.SIGTERM)
        server.wait_for_log("starting worker", count=2)

        eventually(lambda: client.ask("draining") == "True")
        client.close()
        wait_for_end([pid])


@pytest.mark.fault("group-signal")
def test_a_signal_to_the_whole_group_reloads_once(project: Path) -> None:
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "2", "-b", "tcp://127.0.0.1:0"]
    group = subprocess.Popen(
        [*command, "--canary-time", "0"], cwd=project, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    assert group.stderr is not None
    lines = iter(group.stderr)
    next(line for line in lines if " ready: " in line)
    os.killpg(group.pid, signal.SIGHUP)
    log = []
    for line in lines:
        log.append(line)
        if " reload complete: " in line:
            break
    os.killpg(group.pid, signal.SIGTERM)
    log += list(lines)
    group.stderr.close()

    assert group.wait(30) == 0
    assert sum("preparing generation" in line for line in log) == 1
    assert not any("worker lost" in line for line in log)


@pytest.mark.fault("process-1")
@pytest.mark.root
@pytest.mark.needs("unshare")
def test_the_master_can_be_process_1(project: Path) -> None:
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "2", "-b", "unix:socket", "--name", "one"]
    contained = subprocess.Popen(
        ["unshare", "--pid", "--net", "--fork", "--mount-proc", "--kill-child=KILL", *command],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert contained.stderr is not None
        next(line for line in contained.stderr if " ready: " in line)
        rest: list[str] = []
        reader = threading.Thread(target=rest.extend, args=(contained.stderr,))
        reader.start()
        with LineClient(str(project / "socket")) as client:
            assert client.ask("eval os.getppid()") == "1"
            orphan = client.ask("eval __import__('subprocess').check_output('sh -c \"exit 3\" & echo $!', shell=True)")
            pid = orphan.removeprefix("b'").removesuffix("\\n'")
            eventually(lambda: client.ask(f"eval os.path.exists('/proc/{pid}')") == "False")
            client.send("eval os.kill(1, signal.SIGTERM)")
        assert contained.wait(30) == 0
        reader.join()
        contained.stderr.close()
    finally:
        contained.kill()  # if it has not ended: all that it contains ends with it
        contained.wait()
