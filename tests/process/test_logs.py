"""The log of a whole server: with all that its workers write in it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually

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


def test_ten_thousand_lines_are_written_under_a_storm_of_signals() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=100, check=True)

    assert [int(number) for number in re.findall(r" INFO  line (\d+)  pid=", done.stderr)] == list(range(10_000))
    assert len(done.stderr.splitlines()) == 10_000
