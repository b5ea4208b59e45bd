"""Where the application is imported: once in the mold if it can be forked from, else in each worker."""

import os
import signal
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.process.test_deaths import children_of, mold_of, pids_of, serve_for_a_while, wait_for_end
from tests.support.application import WAITING_FOR_GO, write_application
from tests.support.clients import ask_once, connect, eventually, steady_load
from tests.support.processes import suspended

COUNTING = "\nwith open('imports', 'a') as file:\n    file.write(f'{os.getpid()}\\n')\n"
THREAD = "\nimport threading\nthreading.Thread(None, threading.Event().wait, 'the culprit', daemon=True).start()\n"
EPOLL = "\nimport select\nwatching = select.epoll()\n"
SOCKET = "\nimport socket\nopen_socket = socket.socketpair()\n"


def importers(project: Path) -> list[int]:
    """The processes that have imported the application, in order."""
    return [int(line) for line in (project / "imports").read_text().split()]


@pytest.fixture(autouse=True)
def _count_imports(project: Path) -> None:
    write_application(project, extra=COUNTING)


def test_a_generation_is_imported_once(serve: Serve, project: Path) -> None:
    with serve(workers=3) as server:
        assert importers(project) == [mold_of(server)]

        os.kill(pids_of(server)[0], signal.SIGKILL)
        server.scale(5)
        assert len(importers(project)) == 1
        server.reload()
        assert len(importers(project)) == 2


UNSAFE = {"a thread": (THREAD, "thread 'the culprit'"), "epoll": (EPOLL, "eventpoll"), "a socket": (SOCKET, "socket:")}


@pytest.mark.fault("unsafe-import")
@pytest.mark.parametrize("what", UNSAFE)
def test_what_cannot_be_forked_is_named_and_each_worker_imports_for_itself(
    serve: Serve, project: Path, what: str
) -> None:
    code, name = UNSAFE[what]
    write_application(project, extra=COUNTING + code)
    with serve(workers=2) as server:
        mold, *workers = importers(project)

        assert sorted(workers) == sorted(pids_of(server))
        assert mold not in (mold_of(server), *workers)
        warning = server.log.partition("preloading unsafe")[2]
        assert name in "".join(warning.splitlines(keepends=True)[:2])
        assert ask_once(server.address, "version") == "1"


def test_an_unsafe_mold_that_is_gone_before_it_was_heard_is_replaced(serve: Serve, project: Path) -> None:
    write_application(project, extra=WAITING_FOR_GO + THREAD)
    with serve(workers=1, wait_until_ready=False) as server:
        server.wait_for_log("starting mold")
        eventually(lambda: len(children_of(server.pid)) == 1)
        # Who connects is heard first; then the master reaps.
        with suspended(server.pid), connect(f"\0prefork/{os.getuid()}/{server.pid}"):
            (project / "go").touch()
            wait_for_end(children_of(server.pid))

        server.wait_for_log(" ready: ")
        assert ask_once(server.address, "version") == "1"


def test_an_unsafe_import_is_found_again_by_a_reload(serve: Serve, project: Path) -> None:
    with serve(workers=2) as server:
        write_application(project, version="2", extra=COUNTING + THREAD)
        server.reload()
        server.wait_for_log("preloading unsafe")
        assert {ask_once(server.address, "version") for _ in range(10)} == {"2"}
        write_application(project, version="3", extra=COUNTING)
        server.reload()

        assert {ask_once(server.address, "version") for _ in range(10)} == {"3"}
        assert importers(project)[-1] == mold_of(server)
        assert server.log.count("preloading unsafe") == 1


@pytest.mark.fault("unsafe-import")
@pytest.mark.parametrize("what", UNSAFE)
def test_always_insists_and_warns(serve: Serve, project: Path, what: str) -> None:
    code, name = UNSAFE[what]
    write_application(project, extra=COUNTING + code)
    with serve(workers=2, preload="always") as server:
        assert name in server.wait_for_log("forking from an unsafe mold")
        assert importers(project) == [mold_of(server)]
        assert ask_once(server.address, "version") == "1"


def test_always_is_silent_where_it_is_safe(serve: Serve, project: Path) -> None:
    with serve(workers=2, preload="always") as server:
        assert importers(project) == [mold_of(server)]
        assert " WARN " not in server.log


def test_never_imports_in_each_worker(serve: Serve, project: Path) -> None:
    write_application(project, extra=COUNTING + THREAD)
    with serve(workers=3, preload="never") as server:
        assert sorted(importers(project)) == sorted(pids_of(server))
        assert " WARN " not in server.log


@pytest.mark.parametrize("preload", ["auto", "never"])
def test_a_dead_worker_that_imported_for_itself_is_replaced(serve: Serve, project: Path, preload: str) -> None:
    write_application(project, extra=COUNTING + THREAD)
    with serve(workers=2, preload=preload) as server:
        victim = pids_of(server)[0]
        os.kill(victim, signal.SIGKILL)
        wait_for_end([victim])
        eventually(lambda: len(server.workers()) == 2)

        assert set(pids_of(server)) == set(importers(project)[-3:]) - {victim}


def test_never_with_broken_code_serves_on_with_the_others_until_it_is_repaired(serve: Serve, project: Path) -> None:
    with serve(workers=2, preload="never") as server:
        serve_for_a_while(server)
        (project / "app.py").write_text("raise ValueError('the cause')\n")
        with steady_load(server.address) as crowd:
            survivor, victim = pids_of(server)
            os.kill(victim, signal.SIGKILL)
            server.wait_for_log("short of workers")
            crowd.forget()
            crowd.wait_for_more()
            server.wait_for_log("ValueError: the cause")
            assert pids_of(server) == [survivor]
            write_application(project, version="2")
            server.wait_for_log("enough workers")
            eventually(lambda: crowd.answers["2"] > 0)

        assert len(server.workers()) == 2
        assert len(crowd.failures) <= 8, "the victim's own connections are lost, no others"
