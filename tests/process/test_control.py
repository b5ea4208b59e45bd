"""The control commands, as an operator types them, and what clients of the control socket may do to a server."""

import ctypes
import errno
import itertools
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefork.testing import Address, Server
from tests.process.conftest import Serve
from tests.process.test_deaths import children_of, wait_for_end
from tests.support import tools
from tests.support.application import WAITING_FOR_GO, write_application
from tests.support.clients import LineClient, ask_once, connect, eventually, steady_load

Done = subprocess.CompletedProcess[str]


def prefork(*words: str, by: tuple[str, ...] = (), cwd: Path | None = None) -> Done:
    """Run a command as somebody in a terminal does; `by` are words to put before it."""
    command = [*by, sys.executable, "-m", "prefork", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def control(server: Server, *words: str) -> Done:
    """Run a control command for this server, and for no other that may run here."""
    return prefork(*words, "--pid", str(server.pid))


def connect_to(server: Server) -> socket.socket:
    """Open a connection to the control socket of a server."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"\0prefork/{os.getuid()}/{server.pid}")
    client.settimeout(30)
    return client


def wait_for_hang_up(client: socket.socket) -> None:
    """Return when the server has ended the connection; its last words do not matter."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionError:
        pass


# The commands


def test_status_fits_a_terminal(serve: Serve) -> None:
    with serve(workers=2, name="shop") as server, LineClient(server.address) as client:
        client.ask("pid")
        done = control(server, "status")

        assert done.returncode == 0
        assert done.stdout.startswith(f"shop: serving   pid {server.pid}   generation 1")
        assert max(len(line) for line in done.stdout.splitlines()) <= 80
        for worker in server.workers():
            assert re.search(rf"^ +{worker['slot']} +1 +{worker['pid']} serving .* [01]/128", done.stdout, re.M)


def test_status_as_json_has_it_all(serve: Serve) -> None:
    with serve(workers=2, name="shop") as server, LineClient(server.address) as client:
        client.ask("pid")
        status = json.loads(control(server, "status", "--json").stdout)

        assert (status["name"], status["pid"], status["target"]) == ("shop", server.pid, "app:Handler")
        assert (status["state"], status["ready"], status["generation"], status["wanted"]) == ("serving", True, 1, 2)
        assert [listener["bind"] for listener in status["listeners"]] == ["tcp://127.0.0.1:0"]
        assert status["totals"]["accepted"] == 1
        (request,) = [request for worker in status["workers"] for request in worker["requests"]]
        assert request["peer"] == "{}:{}".format(*client._socket.getsockname())


def test_list_shows_every_server(serve: Serve) -> None:
    with serve(name="one") as one, serve(name="two", workers=1) as two:
        text = prefork("list").stdout
        listed = {status["pid"]: status for status in json.loads(prefork("list", "--json").stdout)}

        assert re.search(rf"^one +{one.pid} +serving +2/2 +tcp://127.0.0.1:\d+ +app:Handler$", text, re.M)
        assert re.search(rf"^two +{two.pid} +serving +1/1 +tcp://127.0.0.1:\d+ +app:Handler$", text, re.M)
        assert (listed[one.pid]["wanted"], listed[two.pid]["wanted"]) == (2, 1)


def test_reload_follows_until_the_new_code_serves(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(project, version="2")
        done = control(server, "reload")

        assert (done.returncode, done.stdout) == (0, "reloaded: generation 2 serves\n")
        assert "draining worker" in done.stderr
        assert ask_once(server.address, "version") == "2"


@pytest.mark.parametrize(
    ("order", "result", "line"),
    [
        ("reload", "reloaded: generation 2 serves", r"reloading \d+s \| 2 of 2 serve, 1 starting \| starting worker: "),
        ("scale 3", "scaled to 3", r"scaling \d+s \| 2 of 3 serve(, 1 starting)? \| s(caled|tarting worker): "),
        ("stop", "stopped: process", r"stopping \d+s \| .* \| exiting with status 0: "),
    ],
    ids=["reload", "scale", "stop"],
)
def test_on_a_terminal_a_long_order_shows_one_line_that_changes(
    serve: Serve, order: str, result: str, line: str
) -> None:
    with serve(workers=2) as server:
        printed, shown = order_on_a_terminal(server, order)

    assert printed.startswith(result)
    assert "\n" not in shown
    lines = shown.split("\r")
    assert any(re.match(line, one) for one in lines), lines
    assert lines[-1] == "\x1b[K"


@pytest.mark.parametrize("order", ["scale 3", "stop"])
def test_in_a_pipe_a_long_order_tells_each_decision_on_a_line(serve: Serve, order: str) -> None:
    with serve(workers=2) as server:
        done = prefork(*order.split(), "--pid", str(server.pid))

    assert done.returncode == 0
    assert "\r" not in done.stderr
    assert any(line.startswith(("starting worker: ", "exiting with status 0: ")) for line in done.stderr.splitlines())


def order_on_a_terminal(server: Server, order: str) -> tuple[str, str]:
    """Run a command with a terminal as its standard error; return what it printed and what the terminal was told."""
    terminal, theirs = pty.openpty()
    words = [sys.executable, "-m", "prefork", *order.split(), "--pid", str(server.pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, text=True) as ordering:
        os.close(theirs)
        shown = read_terminal(terminal)
        assert ordering.stdout is not None
        return ordering.stdout.read(), shown


def read_terminal(descriptor: int) -> str:
    """Return what was written to a terminal until its last user hung up."""
    shown = b""
    with os.fdopen(descriptor, "rb", buffering=0) as terminal:
        try:
            while data := terminal.read(4096):
                shown += data
        except OSError as error:
            if error.errno != errno.EIO:
                raise
    return shown.decode()


@pytest.mark.fault("broken-reload")
def test_a_reload_that_is_given_up_shows_the_traceback(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(project, extra="\nraise ValueError('the cause')\n")
        done = control(server, "reload")
        as_json = json.loads(control(server, "reload", "--json").stdout)

        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback (most recent call last)" in done.stderr
        assert "\n    raise ValueError('the cause')\n" in done.stderr
        assert "prefork: " in done.stderr
        assert as_json["ok"] is False
        assert "ValueError: the cause" in as_json["error"] + as_json["detail"]
        assert "was given up" in control(server, "status").stdout


def test_a_cause_that_is_no_unicode_is_told_as_an_escape(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(project, extra="\nraise ValueError('no \\udcff here')\n")
        done = control(server, "reload")

        assert done.returncode == 1
        assert r"no \udcff here" in done.stderr
        assert control(server, "status").returncode == 0


def test_two_reloads_at_once_both_learn_the_outcome(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(project, version="2")
        outcomes: list[Done] = []
        threads = [threading.Thread(target=lambda: outcomes.append(control(server, "reload"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [done.returncode for done in outcomes] == [0, 0]
        assert ask_once(server.address, "version") == "2"


def test_scale_sets_or_changes_the_number_of_workers(serve: Serve) -> None:
    with serve(workers=2) as server:
        for argument, workers in (("4", 4), ("+1", 5), ("-2", 3), ("3", 3)):
            assert control(server, "scale", argument).returncode == 0
            assert len(server.workers()) == workers


@pytest.mark.parametrize("argument", ["0", "-2", "1024", "+1022", "5000", "+5000"])
def test_a_scale_that_makes_no_sense_is_refused_with_the_reason(serve: Serve, argument: str) -> None:
    with serve(workers=2) as server:
        before = [worker["pid"] for worker in server.workers()]
        done = control(server, "scale", argument)

        assert done.returncode == 1
        assert re.search(r"^prefork: .*\b(1|1024|1023)\b", done.stderr, re.M), done.stderr
        assert server.status()["wanted"] == 2
        assert [worker["pid"] for worker in server.workers()] == before


def test_stop_lets_open_connections_end(serve: Serve) -> None:
    with serve() as server, LineClient(server.address) as client:
        client.ask("pid")
        stopping = subprocess.Popen(
            [sys.executable, "-m", "prefork", "stop", "--pid", str(server.pid)], stdout=subprocess.PIPE, text=True
        )
        server.wait_for_log("draining worker", count=2)
        assert client.ask("echo still here") == "still here"
        client.close()

        output, _ = stopping.communicate(timeout=30)
        assert (stopping.returncode, output) == (0, f"stopped: process {server.pid} is gone\n")
        assert server.wait() == 0


def test_stop_quick_cuts_open_connections(serve: Serve) -> None:
    with serve(drain_timeout=300) as server, LineClient(server.address) as client:
        client.ask("pid")

        assert control(server, "stop", "--quick").returncode == 0
        client.wait_for_end()
        assert server.wait() == 0


def test_a_quick_stop_hurries_one_that_waits(serve: Serve) -> None:
    with serve(drain_timeout=300) as server, LineClient(server.address) as client:
        client.ask("pid")
        stopping = subprocess.Popen(
            [sys.executable, "-m", "prefork", "stop", "--pid", str(server.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server.wait_for_log("draining worker", count=2)

        assert control(server, "stop", "--quick").returncode == 0
        assert stopping.wait(30) == 0
        client.wait_for_end()


@pytest.mark.parametrize("way", ["reopen", "SIGUSR1"])
def test_a_rotated_log_loses_no_line(serve: Serve, project: Path, way: str) -> None:
    log, rotated, lines = project / "server.log", project / "server.log.1", 400
    with serve(workers=2, log_file=str(log), wait_until_ready=False) as server:
        eventually(lambda: log.exists() and " ready: " in log.read_text())
        address = server.address
        writing = threading.Thread(target=raise_in_handlers, args=(address, range(lines)))
        writing.start()
        eventually(lambda: "number 100," in log.read_text())
        log.rename(rotated)
        if way == "reopen":
            assert control(server, "reopen").returncode == 0
        else:
            server.signal(signal.SIGUSR1)
        writing.join()
        eventually(lambda: log.exists() and written_to(rotated, log) >= 2 * lines)

        found = re.findall(r"ERROR .*number (\d+),", rotated.read_text() + log.read_text())
        assert sorted(map(int, found)) == list(range(lines))
        assert "log reopened" in log.read_text()
        more = itertools.count(lines)  # a worker may still write to the file that was renamed
        eventually(lambda: raised_into(log, address, next(more)))


def raised_into(log: Path, address: Address, number: int) -> bool:
    """Raise in a handler, and say whether the log has it."""
    raise_in_handlers(address, range(number, number + 1))
    return f"number {number}," in log.read_text()


def raise_in_handlers(address: Address, numbers: range) -> None:
    """Let one handler after another raise, which each of them logs."""
    for number in numbers:
        with LineClient(address) as client:
            client.send(f"raise number {number},")
            client.wait_for_end()


def written_to(*files: Path) -> int:
    """How often handlers' numbers are in the files: once in a record and once in its traceback."""
    return sum(file.read_text().count("number ") for file in files if file.exists())


# Which server


# Of this process alone: others may run the same tests beside it.
ONE, TWO = f"prefork-one-{os.getpid()}", f"prefork-two-{os.getpid()}"


def test_a_server_is_found_by_its_name(serve: Serve) -> None:
    with serve(name=ONE) as one, serve(name=TWO) as two:
        found = [json.loads(prefork("status", "--json", "--name", name).stdout) for name in (ONE, TWO)]

        assert [status["pid"] for status in found] == [one.pid, two.pid]


def test_of_two_servers_none_is_guessed(serve: Serve) -> None:
    with serve(name=ONE) as one, serve(name=TWO) as two:
        for command in ("status", "reload", "stop", "reopen"):
            done = prefork(command)
            assert (done.returncode, done.stdout) == (2, "")
            assert "servers are running; say which one" in done.stderr
            for server, name in ((one, ONE), (two, TWO)):
                assert f"--pid {server.pid}  {name}  app:Handler" in done.stderr
        assert one.status()["last_reload"] is two.status()["last_reload"] is None


every_command = pytest.mark.parametrize("command", ["status", "reload", "scale 2", "stop", "stop --quick", "reopen"])


@pytest.mark.parametrize("option", ["--pid 1", "--name prefork-test-nobody", "--control nowhere"])
@every_command
def test_no_such_server_is_5(command: str, option: str, tmp_path: Path) -> None:
    done = prefork(*command.split(), *option.split(), cwd=tmp_path)

    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("prefork: ")


@pytest.fixture
def alone() -> Iterator[None]:
    """No other server is running: this thread, and so what it starts, is in a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    new_network = 0x40000000  # CLONE_NEWNET (clone(2)): it has abstract Unix addresses of its own
    try:
        if libc.unshare(new_network) != 0:
            tools.unavailable(f"no network namespace to be had: {os.strerror(ctypes.get_errno())}")
        yield
        assert libc.setns(before, new_network) == 0
    finally:
        os.close(before)


@pytest.mark.root
@pytest.mark.usefixtures("alone")
def test_the_only_server_is_found_by_itself(serve: Serve, project: Path) -> None:
    with serve(bind=[f"unix:{project}/socket"], workers=1, name="only") as server:
        assert prefork("status").stdout.startswith("only: serving")
        assert len(prefork("list").stdout.splitlines()) == 2
        assert prefork("scale", "+1").returncode == 0
        assert len(server.workers()) == 2
        assert prefork("reload").returncode == 0
        assert prefork("stop").returncode == 0
        assert server.wait() == 0


@pytest.mark.root
@pytest.mark.usefixtures("alone")
@every_command
def test_without_any_server_a_control_command_is_5(command: str) -> None:
    done = prefork(*command.split())

    assert done.returncode == 5
    assert done.stderr.startswith("prefork: no server is running as this user")


@pytest.mark.root
@pytest.mark.usefixtures("alone")
def test_without_any_server_the_list_is_empty() -> None:
    done = prefork("list")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no server is running\n")


def test_a_control_file_is_private_and_goes_with_the_server(serve: Serve, project: Path) -> None:
    path = project / "control"
    with serve(control=str(path)) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert json.loads(prefork("status", "--json", "--control", str(path)).stdout)["pid"] == server.pid
        assert prefork("status", "--pid", str(server.pid)).returncode == 5
        assert prefork("reload", "--control", str(path)).returncode == 0
        assert prefork("stop", "--control", str(path)).returncode == 0

        assert server.wait() == 0
        assert not path.exists()


def test_a_control_file_left_by_a_killed_server_is_replaced(serve: Serve, project: Path) -> None:
    path = project / "control"
    with serve(control=str(path)) as server:
        children = children_of(server.pid)
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        wait_for_end(children)
        assert path.exists()
        assert prefork("status", "--control", str(path)).returncode == 5
    with serve(control=str(path)) as server:
        assert prefork("status", "--control", str(path)).returncode == 0


@pytest.mark.root
@pytest.mark.needs("unshare")
def test_a_server_serves_although_its_control_address_is_taken(project: Path) -> None:
    """As process 1 of a container that shares the network with another one, whose process 1 is a server, too."""
    # The descriptor of the socket that has the name lives on in the server itself.
    take = (
        "import os, socket, sys; taken = socket.socket(socket.AF_UNIX); taken.bind('\\0prefork/0/1'); taken.listen(); "
        "taken.set_inheritable(True); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    words = ["unshare", "--pid", "--net", "--fork", "--mount-proc", "--kill-child=KILL", sys.executable, "-c", take]
    command = [*words, "-m", "prefork", "run", "app:Handler", "-w", "1", "-b", "unix:socket"]
    server = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    with server.stderr:
        lines = list(itertools.takewhile(lambda line: " ready: " not in line, server.stderr))
        answer = ask_once(str(project / "socket"), "version")
        inside = children_of(server.pid)
        server.kill()
        server.wait()
        wait_for_end(inside)

    assert answer == "1"
    assert any("no control socket" in line for line in lines)


def test_a_second_server_does_not_take_the_control_file_of_a_living_one(serve: Serve, project: Path) -> None:
    path = str(project / "control")
    with serve(control=path) as server:
        second = prefork("run", "app:Handler", "-b", "127.0.0.1:0", "--control", path, cwd=project)

        assert second.returncode == 4, second.stderr
        assert json.loads(prefork("status", "--json", "--control", path).stdout)["pid"] == server.pid


def test_control_can_be_switched_off(serve: Serve, project: Path) -> None:
    path = str(project / "socket")
    with serve(control="off", bind=[f"unix:{path}"]) as server:
        assert prefork("status", "--pid", str(server.pid)).returncode == 5
        assert ask_once(path, "echo x") == "x"
        assert server.stop() == 0


# Before a server runs


def test_check_says_what_a_target_is(project: Path) -> None:
    done = prefork("check", "app:Handler", "-w", "3", "-b", "unix:socket", cwd=project)

    assert done.returncode == 0
    assert done.stdout.splitlines()[:4] == [
        "app:Handler is a handler class, served by prefork's pool of threads",
        "workers: 3",
        f"listener: unix:{project}/socket",
        "worst case: 512 connections at a time",
    ]
    assert not (project / "socket").exists()


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["app:Handlr"], 3, "did you mean Handler?"),
        (["app:Handler", "--workers", "0"], 2, "--workers"),
        (["app:Handler", "--wrokers", "2"], 2, "did you mean --workers?"),
    ],
)
def test_check_says_what_is_wrong(project: Path, words: list[str], code: int, cause: str) -> None:
    done = prefork("check", *words, cwd=project)

    assert (done.returncode, done.stdout) == (code, "")
    assert cause in done.stderr


def test_config_says_where_each_setting_comes_from(project: Path) -> None:
    (project / "prefork.toml").write_text("threads = 7\nworkers = 9\n")
    done = prefork("config", "app:Handler", "--workers", "3", cwd=project)
    as_json = json.loads(prefork("config", "app:Handler", "--workers", "3", "--json", cwd=project).stdout)

    assert done.returncode == 0
    assert re.search(r"^workers +3 +--workers$", done.stdout, re.M)
    assert re.search(r"^threads +7 +prefork.toml:1$", done.stdout, re.M)
    assert re.search(r"^surge +1 +default$", done.stdout, re.M)
    assert as_json["threads"] == {"value": 7, "origin": "prefork.toml:1"}


# Clients that mean no good, or nothing at all


@pytest.mark.fault("control-client")
def test_a_client_that_stops_in_the_middle_of_its_line_is_hung_up_on(serve: Serve) -> None:
    with serve() as server, connect_to(server) as client:
        client.sendall(b'{"command": "sta')

        assert server.status()["state"] == "serving"
        assert ask_once(server.address, "echo x") == "x"
        wait_for_hang_up(client)


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b'{"command": "explode"}', b'{"command": "scale"}', b'{"command": 3}', b"[]", b"\xff", b""],
    ids=repr,
)
def test_a_line_that_is_no_request_is_answered_with_the_reason(serve: Serve, line: bytes) -> None:
    with serve(workers=1) as server, connect_to(server) as client:
        client.sendall(line + b"\n")
        answer = json.loads(client.makefile("rb").readline())

        assert answer["ok"] is False
        assert answer["error"]
        assert server.status()["state"] == "serving"


@pytest.mark.fault("control-client")
def test_an_endless_line_is_refused_and_kept_nowhere(serve: Serve) -> None:
    with serve() as server, steady_load(server.address) as crowd, connect_to(server) as client:
        before = resident_bytes(server.pid)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                client.sendall(b"x" * 1_000_000)
        crowd.wait_for_more()

        assert json.loads(client.makefile("rb").readline())["error"] == "the request is longer than 64 KiB"
        assert resident_bytes(server.pid) - before < 4_000_000
        assert control(server, "status").returncode == 0
        assert crowd.failures == []


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.fault("control-client")
def test_a_thousand_clients_that_say_nothing_disturb_nobody(serve: Serve) -> None:
    with serve() as server, steady_load(server.address) as crowd:
        address = f"\0prefork/{os.getuid()}/{server.pid}"
        idle = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
        for client in idle:
            client.connect(address)
        assert control(server, "status").returncode == 0
        assert control(server, "scale", "3").returncode == 0
        crowd.wait_for_more()

        assert crowd.failures == []
        assert len(os.listdir(f"/proc/{server.pid}/fd")) < 100
        for client in idle:
            client.close()


def test_a_follower_hears_each_decision_and_delays_nobody(serve: Serve) -> None:
    with serve(workers=1, canary_time=0) as server, connect_to(server) as client:
        client.sendall(b'{"command": "follow"}\n')
        server.reload()
        server.reload()
        server.stop()
        lines = client.makefile("r").read().splitlines()

    heard = [json.loads(line)["log"] for line in lines]
    assert len([line for line in heard if line.startswith("reload complete: ")]) == 2
    assert heard[-1].startswith("exiting with status 0: ")


def test_who_follows_leaves_places_for_those_who_ask(serve: Serve, project: Path) -> None:
    path = str(project / "control")  # of its own: commands that look for servers, as other tests have, take no place
    with serve(workers=1, control=path) as server, ExitStack() as clients:
        followers = [clients.enter_context(connect(path)) for _ in range(32)]
        for follower in followers:
            follower.sendall(b'{"command": "follow"}\n')
        server.signal(signal.SIGHUP)
        for follower in followers:
            assert follower.recv(1) == b"{"
        server.wait_for_log("reload complete")
        refused = prefork("scale", "2", "--control", path)
        assert refused.returncode == 1
        assert "32 clients follow the server already" in refused.stderr
        for _ in range(2):
            assert prefork("health", "--control", path).returncode == 0
            assert prefork("status", "--control", path).returncode == 0
        followers[0].close()
        eventually(lambda: prefork("scale", "2", "--control", path).returncode == 0)


def test_a_client_that_leaves_in_the_middle_of_its_reload_does_not_stop_it(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(project, version="2")
        with connect_to(server) as client:
            client.sendall(b'{"command": "reload"}\n')
            client.recv(1)
        server.wait_for_log(" reload complete: ")

        assert ask_once(server.address, "version") == "2"


AS_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.mark.fault("control-client")
@pytest.mark.root
@pytest.mark.needs("setpriv", "socat")
def test_a_client_of_another_user_is_refused(serve: Serve) -> None:
    with serve() as server:
        done = subprocess.run(
            [*AS_NOBODY, "socat", "-", f"ABSTRACT-CONNECT:prefork/{os.getuid()}/{server.pid}"],
            input=b'{"command": "stop"}\n',
            capture_output=True,
            timeout=60,
            check=False,
        )

        assert done.stdout == b""
        assert "uid 65534" in server.wait_for_log("control clients refused")
        assert ask_once(server.address, "echo x") == "x"
        assert server.status()["state"] == "serving"


@pytest.mark.root
@pytest.mark.needs("setpriv", "socat")
def test_a_control_file_does_not_let_another_user_in(serve: Serve, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with serve(control=str(tmp_path / "control"), bind=[f"unix:{tmp_path}/socket"]):
        done = subprocess.run(
            [*AS_NOBODY, "socat", "-", f"UNIX-CONNECT:{tmp_path}/control"],
            input=b'{"command": "stop"}\n',
            capture_output=True,
            timeout=60,
            check=False,
        )

        assert done.returncode != 0
        assert b"ermission denied" in done.stderr
        assert ask_once(f"{tmp_path}/socket", "echo x") == "x"


@pytest.mark.root
@pytest.mark.needs("setpriv")
def test_another_user_cannot_signal_any_of_our_processes(serve: Serve) -> None:
    with serve() as server:
        for pid in (server.pid, *(worker["pid"] for worker in server.workers())):
            done = subprocess.run(
                [*AS_NOBODY, "sh", "-c", f"kill -TERM {pid}"], capture_output=True, timeout=60, check=False
            )
            assert done.returncode != 0
            assert b"not permitted" in done.stderr

        assert server.status()["state"] == "serving"


def test_a_command_that_is_interrupted_leaves_the_reload_going(serve: Serve, project: Path) -> None:
    with serve() as server:
        write_application(
            project,
            version="2",
            extra=WAITING_FOR_GO,
        )
        command = subprocess.Popen(
            [sys.executable, "-m", "prefork", "reload", "--pid", str(server.pid)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert command.stderr is not None
        command.stderr.readline()
        command.send_signal(signal.SIGINT)
        assert "interrupted" in command.stderr.read()
        command.stderr.close()
        wait_for_end([command.pid])

        assert command.wait() == 1
        (project / "go").touch()
        server.wait_for_log(" reload complete: ")
