"""The log of a whole server: rotated, full, unread, and with all that its workers write in it."""

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support import tools
from tests.support.application import write_application
from tests.support.clients import LineClient, accepts, ask_once, eventually, steady_load
from tests.support.processes import suspended

RECORD = re.compile(
    r"^\S+ INFO  connection served  seconds=\S+ in=\d+ out=\d+ listener=\S+ peer=\S+ worker=\d .*$", re.M
)
LOST = re.compile(r" lines lost: the log could not be written  lost=(\d+) worker=0 ")


def records(*files: Path) -> int:
    """Count the whole lines about connections that were served."""
    return sum(len(RECORD.findall(file.read_text())) for file in files)


def rotate(directory: Path, how: str) -> None:
    """Have logrotate rotate access.log."""
    config = directory / "logrotate.conf"
    config.write_text(f"{directory}/access.log {{\n rotate 100\n missingok\n {how}\n}}\n")
    config.chmod(0o644)
    tools.run(["logrotate", "--force", "--state", str(directory / "state"), str(config)])


@pytest.mark.fault("rotation")
@pytest.mark.needs("logrotate")
@pytest.mark.parametrize("way", ["kill -USR1 {pid}", "{python} -m prefork reopen --pid {pid}"])
def test_renaming_and_reopening_under_load_loses_no_line(serve: Serve, project: Path, way: str) -> None:
    access = project / "access.log"
    with serve(workers=2, access_log=str(access)) as server:
        reopen = way.format(pid=server.pid, python=sys.executable)
        with steady_load(server.address) as crowd:
            for turn in range(1, 6):
                crowd.wait_for_more()
                rotate(project, f"postrotate\n {reopen}\n endscript")
                server.wait_for_log(f"log reopened: {access}", count=turn)
                eventually(lambda: records(access) > 0)
        assert server.stop() == 0

    assert crowd.failures == []
    assert len(list(project.glob("access.log*"))) == 6
    assert records(*project.glob("access.log*")) == crowd.answers.total()


@pytest.mark.fault("rotation")
def test_a_log_whose_name_is_no_unicode_is_reopened_by_all(serve: Serve, project: Path) -> None:
    log = project / "\udcff"
    with serve(workers=1, access_log=str(log)) as server:
        log.rename(project / "old")
        server.signal(signal.SIGUSR1)
        server.wait_for_log("log reopened: ")
        eventually(lambda: ask_once(server.address, "echo x") == "x" and records(log) > 0)


@pytest.mark.fault("rotation")
def test_a_worker_without_a_free_descriptor_says_that_it_writes_to_the_old_file(serve: Serve, project: Path) -> None:
    access, old = project / "access.log", project / "old"
    with serve(workers=1, access_log=str(access)) as server, LineClient(server.address) as client:
        worker = int(client.ask("pid"))
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
        access.rename(old)
        server.signal(signal.SIGUSR1)

        server.wait_for_log(f"cannot reopen the log {access}: no descriptor is free; the old file is still written")
        client.close()
        eventually(lambda: records(old) == 1)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        server.signal(signal.SIGUSR1)
        eventually(lambda: ask_once(server.address, "echo x") == "x" and records(access) > 0)


@pytest.mark.fault("rotation")
@pytest.mark.needs("logrotate")
def test_copying_and_truncating_under_load_loses_no_line_written_later(serve: Serve, project: Path) -> None:
    access = project / "access.log"
    with serve(workers=2, access_log=str(access)) as server:
        with steady_load(server.address) as crowd:
            pids = [worker["pid"] for worker in server.workers()]
            for _ in range(3):
                crowd.wait_for_more()
                with suspended(*pids):  # what comes between the copy and the truncation nobody can keep
                    rotate(project, "copytruncate")
                    assert access.stat().st_size == 0
        assert server.stop() == 0

    assert crowd.failures == []
    assert records(*project.glob("access.log*")) == crowd.answers.total()
    assert b"\0" not in access.read_bytes()


def test_lines_that_do_not_get_into_the_log_are_counted_for_all_processes(serve: Serve) -> None:
    with serve(workers=2, access_log="/dev/full") as server:
        for _ in range(5):
            ask_once(server.address, "version")

        eventually(lambda: server.status()["totals"]["log_lines_lost"] == 5)


WRITERS = {
    "print": "print('from print')",
    "standard error": "print('from standard error', file=sys.stderr)",
    "descriptor 1": "os.write(1, b'from descriptor 1\\n')",
    "descriptor 2": "os.write(2, b'from descriptor 2\\n')",
    "C code": "__import__('faulthandler').dump_traceback(2)",
    "child": "__import__('subprocess').run(['echo', 'from child'])",
}
WRITTEN = {"C code": "most recent call first"}


@pytest.mark.parametrize("who", WRITERS)
def test_what_a_worker_writes_by_itself_is_in_the_log_file(serve: Serve, project: Path, who: str) -> None:
    log = project / "server.log"
    text = WRITTEN.get(who, f"from {who}")
    with serve_into(serve, log) as server:
        ask_once(server.address, f"eval {WRITERS[who]}")
        assert text in log.read_text()

        log.rename(project / "server.log.1")
        server.signal(signal.SIGUSR1)
        eventually(lambda: log.exists() and reopened_by_worker(server, log))
        ask_once(server.address, f"eval {WRITERS[who]}")
        assert text in log.read_text()
    assert server.log == ""


@contextmanager
def serve_into(serve: Serve, log: Path) -> Iterator[Server]:
    """Serve with one worker, and with everything in a file."""
    with serve(workers=1, log_file=str(log), wait_until_ready=False) as server:
        eventually(lambda: log.exists() and " ready: " in log.read_text())
        yield server


def reopened_by_worker(server: Server, log: Path) -> bool:
    (worker,) = server.workers()
    return all(os.path.samefile(f"/proc/{worker['pid']}/fd/{number}", log) for number in (1, 2))


def test_a_printed_line_is_not_lost_when_the_worker_leaves_at_once(serve: Serve, project: Path) -> None:
    log = project / "server.log"
    with serve_into(serve, log) as server, LineClient(server.address) as client:
        client.send("eval print('last words') or os._exit(1)")
        client.wait_for_end()

        assert "last words\n" in log.read_text()


LOGGING = """
import logging, warnings
logging.getLogger("shop").info("imported")
warnings.warn("old")
"""


def test_what_the_application_logs_is_in_the_log(serve: Serve, project: Path) -> None:
    write_application(project, extra=LOGGING)
    with serve(workers=1) as server:
        ask_once(server.address, "eval __import__('logging').getLogger('shop').warning('in a %s', 'handler')")
        line = server.wait_for_log("in a handler")

        assert re.search(r" INFO  shop: imported  gen=1 pid=\d+\n", server.log)
        assert re.search(r" WARN  py.warnings: UserWarning: old \(.*app.py:\d+\)  gen=1 pid=\d+\n", server.log)
        assert re.search(r" WARN  shop: in a handler  worker=0 gen=1 pid=\d+\n", line)


CONFIGURED = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"theirs": {"format": "THEIRS %(message)s"}},
    "handlers": {"stream": {"class": "logging.StreamHandler", "formatter": "theirs"}},
    "root": {"handlers": ["stream"], "level": "DEBUG"},
})
logging.getLogger("shop").debug("imported")
"""


@pytest.mark.parametrize("preload", ["auto", "never"])
def test_an_application_that_configures_logging_wins_and_our_own_lines_go_on(
    serve: Serve, project: Path, preload: str
) -> None:
    write_application(project, extra=CONFIGURED)
    with serve(workers=1, preload=preload) as server, LineClient(server.address) as client:
        client.send("raise the reason")
        client.wait_for_end()

        assert " ERROR handler failed: ValueError: the reason" in server.wait_for_log("the reason")
        assert "\nTHEIRS imported\n" in server.log
        assert "shop: imported" not in server.log


def test_every_line_of_a_json_log_is_an_object(serve: Serve, project: Path) -> None:
    with serve(workers=2, log_format="json", access_log="-", wait_until_ready=False) as server:
        server.wait_for_log('"message": "ready: ')
        ask_once(server.address, "eval print('printed', file=sys.stderr)")
        with LineClient(server.address) as client:
            client.send("raise \x1b[31m")
            client.wait_for_end()
        write_application(project, extra="raise RuntimeError('broken')")
        server.signal(signal.SIGHUP)
        server.wait_for_log("reload failed")
        server.stop()

    told = [json.loads(line) for line in server.log.splitlines()]
    assert all(list(line)[:4] == ["time", "level", "logger", "message"] for line in told)
    (failed,) = [line for line in told if line["message"].startswith("handler failed")]
    assert {"listener", "peer", "worker", "gen", "pid"} <= failed.keys()
    assert "ValueError: \x1b[31m" in failed["detail"]
    (given_up,) = [line for line in told if line["message"].startswith("reload failed")]
    assert "RuntimeError: broken" in given_up["detail"]
    (printed,) = [line for line in told if line["logger"] == "stderr"]
    assert (printed["message"], printed["worker"] in (0, 1)) == ("printed", True)
    assert [line["in"] for line in told if line["message"] == "connection failed"] == [len("raise \x1b[31m\n")]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    tools.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)])
    yield disk
    tools.run(["umount", "--lazy", str(disk)])


@pytest.mark.root
@pytest.mark.needs("mount")
def test_a_full_disk_stops_nobody_and_what_was_lost_is_told(serve: Serve, tiny_disk: Path) -> None:
    access, filler = tiny_disk / "access.log", tiny_disk / "filler"
    filler.write_bytes(bytes(40_000))
    with serve(workers=1, access_log=str(access)) as server:
        answered = 0
        while not answered or access.stat().st_size < 64_000 - filler.stat().st_size - 4096 or answered % 50:
            answered += ask_once(server.address, "echo x") == "x"
        for _ in range(200):
            answered += ask_once(server.address, "echo x") == "x"
        filler.unlink()
        answered += ask_once(server.address, "echo x") == "x"
        assert server.stop() == 0

        lost = sum(map(int, LOST.findall(access.read_text())))
        assert lost >= 100
        assert records(access) + lost == answered


def test_a_reader_that_does_not_read_stops_nobody_and_what_was_lost_is_told(project: Path) -> None:
    with unread(project) as server:
        (port,) = read_until_ready(server)
        for _ in range(800):
            assert ask_once(("127.0.0.1", port), "echo x") == "x"
        assert server.stderr is not None
        os.set_blocking(server.stderr.fileno(), False)
        told = read_what_there_is(server)
        assert ask_once(("127.0.0.1", port), "echo x") == "x"
        os.set_blocking(server.stderr.fileno(), True)
        server.terminate()
        told += server.stderr.read().decode()

    lost = sum(map(int, LOST.findall(told)))
    assert lost > 0
    assert len(RECORD.findall(told)) + lost == 801
    assert server.returncode == 0


def test_a_reader_that_is_gone_stops_nobody(project: Path) -> None:
    with unread(project) as server:
        (port,) = read_until_ready(server)
        assert server.stderr is not None
        server.stderr.close()

        assert [ask_once(("127.0.0.1", port), "echo x") for _ in range(20)] == ["x"] * 20
        tools.run([sys.executable, "-m", "prefork", "reload", "--pid", str(server.pid)])
        assert ask_once(("127.0.0.1", port), "generation") == "2"
        server.terminate()
        assert server.wait(30) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_server_without_standard_streams_serves_and_has_what_is_printed_in_its_log(
    project: Path, closed: str
) -> None:
    log, place = project / "log", project / "socket"
    words = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "1", "-b", f"unix:{place}"]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words, "--log-file", str(log)]
    with subprocess.Popen(shell, cwd=project, stdin=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: accepts(place))
            ask_once(str(place), "eval print('printed')")
            ask_once(str(place), "eval os.write(1, b'written to 1\\n') + os.write(2, b'written to 2\\n')")
            health = f'exec "$@" {closed}'
            ask = [sys.executable, "-m", "prefork", "health", "--pid", str(server.pid)]
            words = ["sh", "-c", health, "sh", *ask]
            eventually(lambda: subprocess.run(words, timeout=60, check=False).returncode == 0)
        finally:
            server.terminate()
        assert server.wait(30) == 0

    assert {"printed", "written to 1", "written to 2"} <= set(log.read_text().splitlines())


def unread(project: Path) -> subprocess.Popen[bytes]:
    """Start a server of one worker whose log nobody has to read."""
    words = ["app:Handler", "-w", "1", "-b", "tcp://127.0.0.1:0", "--access-log", "-", "--canary-time", "0"]
    command = [sys.executable, "-m", "prefork", "run", *words]
    return subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, bufsize=0)


def read_until_ready(server: subprocess.Popen[bytes]) -> list[int]:
    """Read its log until it is ready; return its ports."""
    assert server.stderr is not None
    ports = []
    for line in server.stderr:
        ports += [int(port) for port in re.findall(rb"listening: tcp://127.0.0.1:(\d+)", line)]
        if b" ready: " in line:
            break
    return ports


def read_what_there_is(server: subprocess.Popen[bytes]) -> str:
    assert server.stderr is not None
    parts = []
    while part := server.stderr.read(1 << 20):
        parts.append(part)
    return b"".join(parts).decode()


@pytest.mark.fault("signal-storm")
def test_lines_are_whole_under_a_storm_of_dying_children(serve: Serve) -> None:
    orphans = 300
    storm = f"eval os.system('for i in $(seq {orphans}); do (true &); done')"
    with serve(workers=1, log_level="debug") as server:
        assert ask_once(server.address, storm) == "0"

        server.wait_for_log("reaped an orphan", count=orphans)
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ ", line) for line in server.log.splitlines())
        assert server.reload() == {"generation": 2}


STORM = """
import logging, signal, subprocess
from prefork import logs
from prefork.system.signals import Signals

Signals([signal.SIGCHLD]).install()
logs.set_up("info", "-")
with subprocess.Popen(["sh", "-c", "while kill -CHLD $PPID; do :; done"]) as storm:
    for number in range(10_000):
        logging.getLogger("prefork.test").info("line %d", number)
    storm.kill()
"""


@pytest.mark.fault("signal-storm")
def test_ten_thousand_lines_are_written_under_a_storm_of_signals() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)  # room for all, so that none is dropped because we are slow
    subprocess.run([sys.executable, "-c", STORM], stderr=writer, timeout=100, check=True)
    os.close(writer)
    with open(reader) as read:
        lines = read.read().splitlines()

    assert [int(number) for number in re.findall(r" INFO  line (\d+)  pid=", "\n".join(lines))] == list(range(10_000))
    assert len(lines) == 10_000
