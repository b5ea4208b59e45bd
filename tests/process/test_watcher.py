"""`--reload`: a source file is saved, and the new code answers."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_admin import target_of
from tests.process.test_deaths import children_of, wait_for_end
from tests.support.application import SOURCE, write_application
from tests.support.clients import ask_once, eventually, steady_load
from tests.support.processes import suspended

COMPLETE = " reload complete: "
WATCHING = " watching: "


def watcher_of(server: Server, number: int = 1) -> int:
    """Wait until the watcher, or the one that follows it, is watching; return its pid."""
    line = server.wait_for_log(WATCHING, count=number)
    found = re.search(r" pid=(\d+)$", line.rstrip())
    assert found is not None
    return int(found[1])


def answers(server: Server, version: str) -> bool:
    return ask_once(server.address, "version") == version


def test_a_saved_file_is_served(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server, steady_load(server.address) as crowd:
        (project / "app.py").write_text(SOURCE.format(version="2"))
        server.wait_for_log("source changed: app.py")
        server.wait_for_log(COMPLETE)
        crowd.forget()
        crowd.wait_for_more()

        assert set(crowd.answers) == {"2"}
        assert crowd.failures == []


def test_a_file_saved_by_renaming_is_served_each_time(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher_of(server)
        for version in ("2", "3", "4"):
            write_application(project, version=version)
            eventually(lambda version=version: answers(server, version))  # type: ignore[misc]


def test_to_begin_or_to_end_watching_takes_a_restart(serve: Serve, project: Path) -> None:
    settings = project / "prefork.toml"
    settings.write_text("reload = false\n")
    with serve() as server:
        settings.write_text("reload = true\n")
        server.reload()

        server.wait_for_log("reload not changed: it stays off until the next start")


def test_a_burst_of_saves_ends_with_the_newest_code(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher_of(server)
        for number in range(200):
            (project / f"module{number}.py").write_text("")
            write_application(project, version=str(number))
        eventually(lambda: answers(server, "199"))

        assert server.log.count(COMPLETE) < 20
        assert any("source changed: " in line and "more" in line for line in server.log.splitlines())


def test_a_module_in_a_new_package_is_seen(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher_of(server)
        (project / "package").mkdir()
        (project / "package" / "__init__.py").write_text("")

        server.wait_for_log("source changed: package/__init__.py")
        server.wait_for_log(COMPLETE)


def test_a_changed_configuration_takes_effect(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher_of(server)
        (project / "prefork.toml").write_text("threads = 3\n")
        server.wait_for_log("source changed: prefork.toml")
        server.wait_for_log(COMPLETE)

        eventually(lambda: server.workers()[0]["threads"] == 3)  # the file was there before it was full


def test_a_configuration_elsewhere_is_watched(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "settings.toml"
    file.write_text("threads = 2\n")
    with serve(reload=True, config=str(file)) as server:
        watcher_of(server)
        file.with_suffix(".new").write_text("threads = 3\n")
        file.with_suffix(".new").replace(file)
        server.wait_for_log(f"source changed: {file}")
        server.wait_for_log(COMPLETE)

        assert server.workers()[0]["threads"] == 3


def test_modules_of_the_pythonpath_are_watched(
    serve: Serve, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    (library / "greeting.py").write_text("WORD = 'one'\n")
    write_application(project, extra="\nfrom greeting import WORD\n")
    with serve(reload=True, pythonpath=[str(library)]) as server:
        watcher_of(server)
        (library / "greeting.py").write_text("WORD = 'another'\n")
        server.wait_for_log("source changed: greeting.py")
        server.wait_for_log(COMPLETE)

        assert ask_once(server.address, "eval sys.modules['greeting'].WORD") == "another"


def test_broken_code_is_reported_and_repaired(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher_of(server)
        (project / "app.py").write_text("def f(:\n")
        server.wait_for_log(" reload failed: ")
        server.wait_for_log("SyntaxError")

        assert answers(server, "1")
        write_application(project, version="2")
        eventually(lambda: answers(server, "2"))


def test_two_saves_in_a_second_are_told_apart(serve: Serve, project: Path) -> None:
    """Python takes its cached bytecode for current if size and second of the source agree; so none is written."""
    with serve(reload=True, env={"PYTHONDONTWRITEBYTECODE": ""}) as server:
        watcher_of(server)
        for version in "23456789":
            write_application(project, version=version)
            eventually(lambda version=version: answers(server, version))  # type: ignore[misc]


def test_its_own_log_is_no_source(serve: Serve, project: Path) -> None:
    log = project / "prefork.log"
    with serve(reload=True, log_file=str(log), wait_until_ready=False) as server:
        eventually(lambda: log.exists() and WATCHING in log.read_text())
        write_application(project, version="2")
        eventually(lambda: answers(server, "2"))
        server.stop()

    assert log.read_text().count("preparing generation") == 1


def test_a_dead_watcher_is_replaced_and_nothing_is_missed(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server, steady_load(server.address) as crowd:
        first = watcher_of(server)
        workers = {worker["pid"] for worker in server.workers()}
        os.kill(first, signal.SIGKILL)
        write_application(project, version="2")
        second = watcher_of(server, 2)
        server.wait_for_log(COMPLETE)
        write_application(project, version="3")
        eventually(lambda: answers(server, "3"))

        assert second != first
        assert "killed by SIGKILL; another one starts" in server.wait_for_log("watcher lost: ")
        assert workers.isdisjoint(worker["pid"] for worker in server.workers())
        assert server.status()["totals"]["restarts"] == 0
        assert crowd.failures == []


def test_what_changed_long_before_the_end_of_the_watcher_was_heard_is_not_missed(serve: Serve, project: Path) -> None:
    with serve(reload=True) as server:
        watcher = watcher_of(server)
        with suspended(server.pid):
            os.kill(watcher, signal.SIGKILL)
            write_application(project, version="2")
            written = time.time()
            eventually(lambda: time.time() > written + 3)

        server.wait_for_log(COMPLETE)
        assert ask_once(server.address, "version") == "2"


def test_a_directory_that_disappears_is_looked_for_again(serve: Serve, project: Path) -> None:
    home = project / "home"
    home.mkdir()
    write_application(home)
    with serve(reload=True, chdir=str(home)) as server:
        watcher_of(server)
        home.rename(project / "away")
        server.wait_for_log(f"watcher lost: cannot watch {home}: ", count=2)
        server.wait_for_log(" reload failed: ")

        assert answers(server, "1")
        (project / "away").rename(home)
        watcher_of(server, 2)
        write_application(home, version="2")
        eventually(lambda: answers(server, "2"))


def test_a_directory_that_is_replaced_is_watched_on(serve: Serve, project: Path) -> None:
    home, fresh = project / "home", project / "fresh"
    for directory, version in ((home, "1"), (fresh, "2")):
        directory.mkdir()
        write_application(directory, version=version)
    with serve(reload=True, chdir=str(home)) as server:
        watcher_of(server)
        home.rename(project / "old")
        fresh.rename(home)
        eventually(lambda: answers(server, "2"))
        watcher_of(server, 2)
        write_application(home, version="3")
        eventually(lambda: answers(server, "3"))


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTERM, signal.SIGINT]
)
def test_signals_of_the_process_group_do_the_watcher_no_harm(
    serve: Serve, project: Path, number: signal.Signals
) -> None:
    with serve(reload=True) as server:
        os.kill(watcher_of(server), number)
        write_application(project, version="2")
        eventually(lambda: answers(server, "2"))

        assert "watcher lost" not in server.log


def test_the_watcher_shows_its_name_and_holds_no_listener(serve: Serve) -> None:
    with serve(reload=True, name="shop") as server:
        process = Path(f"/proc/{watcher_of(server)}")

        assert (process / "cmdline").read_text().startswith("prefork: watcher [shop]")
        sockets = [link for fd in (process / "fd").iterdir() if (link := target_of(fd)).startswith("socket:")]
        assert len(sockets) == 1  # its channel


def test_the_master_does_not_load_the_library(serve: Serve) -> None:
    with serve(reload=True) as server:
        watcher = watcher_of(server)

        assert "_rust_notify" in Path(f"/proc/{watcher}/maps").read_text()
        assert "_rust_notify" not in Path(f"/proc/{server.pid}/maps").read_text()
        assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1


def test_the_watcher_dies_with_the_master(serve: Serve) -> None:
    with serve(reload=True) as server:
        pids = children_of(server.pid)
        assert watcher_of(server) in pids
        server.signal(signal.SIGKILL)

        wait_for_end(pids)


def test_a_stop_does_not_wait_for_the_watcher(serve: Serve) -> None:
    with serve(reload=True) as server:
        watcher_of(server)

        assert server.stop() == 0
        assert "watcher lost" not in server.log
