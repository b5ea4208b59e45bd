"""A reload: new code, and no client notices anything else."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from prefork.errors import NotDone
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually, steady_load

NEVER_LOADED = "\nimport pathlib, threading\npathlib.Path('importing').touch()\nthreading.Event().wait()\n"


def test_twenty_reloads_under_load_lose_no_request(serve: Serve, project: Path) -> None:
    with serve(workers=2, canary_time=0) as server, steady_load(server.address) as crowd:
        crowd.wait_for_more()
        for number in range(2, 22):
            write_application(project, version=str(number))
            server.signal(signal.SIGHUP)
            server.wait_for_log(" reload complete: ", count=number - 1)
            crowd.wait_for_more(20)
        crowd.forget()
        crowd.wait_for_more()

        assert crowd.failures == []
        assert set(crowd.answers) == {"21"}


def test_after_the_verdict_only_new_code_answers(serve: Serve, project: Path) -> None:
    with serve(workers=4) as server:
        write_application(project, version="2")
        server.reload()

        assert {ask_once(server.address, "version") for _ in range(100)} == {"2"}


def test_an_open_connection_survives_a_reload(serve: Serve, project: Path) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        assert client.ask("version") == "1"
        write_application(project, version="2")
        server.reload()

        assert client.ask("version") == "1"
        eventually(lambda: client.ask("draining") == "True")
        assert [worker["state"] for worker in server.status()["workers"]] == ["draining", "serving"]


def test_a_connection_that_outstays_the_drain_is_cut_and_logged(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=0.5) as server, LineClient(server.address) as client:
        client.ask("pid")
        server.reload()
        client.wait_for_end()

        server.wait_for_log("cutting open connections (1)")


def test_no_datagram_is_lost_by_reloads(serve: Serve) -> None:
    with serve("app:Datagrams", workers=2, canary_time=0, bind=["udp://127.0.0.1:0"]) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            client.settimeout(30)
            client.connect(server.address)
            for number in range(1, 11):
                server.signal(signal.SIGHUP)
                burst = {b"1 %d-%d" % (number, index) for index in range(150)}
                for text in burst:
                    client.send(text[2:])
                assert {client.recv(100) for _ in burst} == burst
                server.wait_for_log(" reload complete: ", count=number)


def test_scaling_up_and_down_under_load_loses_no_request(serve: Serve) -> None:
    with serve(workers=1) as server, steady_load(server.address) as crowd:
        for workers in (4, 2, 5, 1, 3):
            crowd.wait_for_more()
            server.scale(workers)
            assert len(server.workers()) == workers

        assert crowd.failures == []


@pytest.mark.fault("scaling")
def test_signals_scale_and_a_reload_keeps_it(serve: Serve) -> None:
    with serve(workers=2) as server:
        server.signal(signal.SIGTTIN)
        server.wait_for_log("scaled")
        server.signal(signal.SIGTTIN)
        server.wait_for_log("scaled", count=2)
        server.signal(signal.SIGTTOU)
        server.wait_for_log("scaled", count=3)
        server.reload()

        assert len(server.workers()) == 3


@pytest.mark.fault("scaling")
def test_the_last_worker_cannot_be_scaled_away(serve: Serve) -> None:
    with serve(workers=1) as server:
        server.signal(signal.SIGTTOU)
        server.wait_for_log("scaling refused")

        assert ask_once(server.address, "echo x") == "x"


@pytest.mark.fault("order-during-reload")
def test_a_burst_of_reloads_ends_with_the_newest_code(serve: Serve, project: Path) -> None:
    with serve(workers=2, canary_time=0) as server, steady_load(server.address) as crowd:
        for number in range(2, 12):
            write_application(project, version=str(number))
            server.signal(signal.SIGHUP)
        server.reload()
        crowd.forget()
        crowd.wait_for_more()

        assert crowd.failures == []
        assert set(crowd.answers) == {"11"}
        assert len(server.workers()) == 2


def test_each_reload_is_counted_by_what_became_of_it(serve: Serve, project: Path) -> None:
    with serve(workers=1) as server:
        write_application(project, extra=NEVER_LOADED)
        server.signal(signal.SIGHUP)
        eventually((project / "importing").exists)
        write_application(project, version="2")
        server.reload()
        write_application(project, extra=NEVER_LOADED)
        server.signal(signal.SIGUSR2)
        server.wait_for_log("starting mold", count=4)
        with pytest.raises(NotDone, match="an upgrade is under way"):
            server.reload()

        totals = server.status()["totals"]
        assert {name: totals[name] for name in totals if name.startswith("reloads")} == {
            "reloads": 1,
            "reloads_failed": 0,
            "reloads_refused": 1,
            "reloads_superseded": 1,
        }


@pytest.mark.fault("moved-code")
def test_a_reload_follows_a_switched_link(serve: Serve, tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        write_application(tmp_path / version, version=version)
    link = tmp_path / "current"
    link.symlink_to("1")
    with serve(chdir=str(link)) as server:
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").replace(link)
        server.reload()

        assert ask_once(server.address, "version") == "2"


def test_changed_settings_take_effect(serve: Serve, project: Path) -> None:
    (project / "prefork.toml").write_text("[server]\nmotd = 'one'\n")
    with serve(workers=1) as server:
        assert server.workers()[0]["threads"] == 128
        (project / "prefork.toml").write_text("threads = 3\n[server]\nmotd = 'two'\n")
        server.reload()

        assert server.workers()[0]["threads"] == 3
        assert ask_once(server.address, "eval self.server.motd") == "two"


def test_binds_change_without_losing_who_waits(project: Path, serve: Serve) -> None:
    old, kept, new = (str(project / name) for name in ("old", "kept", "new"))
    (project / "prefork.toml").write_text(f'bind = ["unix:{old}", "unix:{kept}"]\n')
    with serve(workers=1, threads=2, bind=[]) as server:
        holding = [LineClient(old) for _ in range(2)]
        for client in holding:
            client.ask("pid")  # both threads are busy: the next connections wait in the queue
        waiting = [LineClient(old) for _ in range(3)]
        for client in waiting:
            client.send("version")
        write_application(project, version="2")
        (project / "prefork.toml").write_text(f'bind = ["unix:{kept}", "unix:{new}"]\n')
        reloading = threading.Thread(target=server.reload)
        reloading.start()
        server.wait_for_log("draining worker")
        for client in holding:
            client.close()

        for client in waiting:
            assert client.read() == "1"
            client.close()
        reloading.join()
        assert [ask_once(path, "version") for path in (kept, new)] == ["2", "2"]
        server.wait_for_log("closed listener")
        assert not os.path.exists(old)
    assert not os.path.exists(new)


def test_changed_options_of_a_listener_wait_for_the_next_start(project: Path, serve: Serve) -> None:
    (project / "prefork.toml").write_text('bind = "unix:socket"\n')
    with serve(bind=[]) as server:
        (project / "prefork.toml").write_text('bind = "unix:socket?mode=0666"\n')
        server.reload()

        server.wait_for_log("listener not changed")
        assert ask_once(server.address, "generation") == "2"


def test_a_file_broken_after_the_reload_began_does_not_matter(serve: Serve, project: Path) -> None:
    """The code of a generation is loaded once: a worker that dies later is replaced by what its mold holds."""
    with serve(workers=2, canary_time=0) as server:
        write_application(project, version="2")
        server.reload()
        (project / "app.py").write_text("this is no Python")
        for worker in server.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        server.wait_for_log("starting worker", count=6)

        assert ask_once(server.address, "version") == "2"


BROKEN = {
    "a syntax error": ("def f(:\n", "app.py"),
    "an import that raises": ("raise ValueError('the cause')\n", "ValueError: the cause"),
    "an import that exits": ("import sys\nsys.exit('the cause')\n", "the cause"),
    "an import that kills itself": ("import os\nos._exit(3)\n", "exit status 3"),
    "an import of what is not there": ("import not_installed\n", "not_installed"),
    "a handler that is gone": ("Hanlder = 1\n", "Handler"),
    "an import that hangs": ("import threading\nthreading.Event().wait()\n", "not loaded within 6 s"),
}


@pytest.mark.fault("broken-reload")
@pytest.mark.parametrize("what", BROKEN)
def test_broken_code_leaves_the_old_serving(serve: Serve, project: Path, what: str) -> None:
    code, cause = BROKEN[what]
    with serve(workers=2, boot_timeout=6) as server, steady_load(server.address) as crowd:
        crowd.wait_for_more()
        (project / "app.py").write_text(code)
        with pytest.raises(NotDone) as failure:
            server.reload()
        crowd.wait_for_more()

        assert cause in f"{failure.value}\n{failure.value.detail}"
        assert set(crowd.answers) == {"1"}
        write_application(project, version="2")
        server.reload()
        crowd.forget()
        crowd.wait_for_more()
        assert set(crowd.answers) == {"2"}
        assert crowd.failures == []


@pytest.mark.fault("short-lived")
def test_a_worker_that_dies_in_its_trial_leaves_the_old_serving(serve: Serve, project: Path) -> None:
    with serve(workers=2, canary_time=4) as server, steady_load(server.address) as crowd:
        dying = "    @classmethod\n    def on_worker_start(cls, server):\n        import threading\n"
        dying += "        threading.Timer(0.1, lambda: os._exit(9)).start()\n"
        write_application(project, version="2", extra=f"\n\nclass Handler(Handler):\n{dying}")
        with pytest.raises(NotDone, match="exit status 9"):
            server.reload()
        crowd.wait_for_more()

        assert crowd.failures == []
        write_application(project, version="3")
        server.reload()
        assert ask_once(server.address, "version") == "3"


@pytest.mark.fault("broken-reload")
@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ("threads = [\n", "prefork.toml:1"),
        ("wrokers = 3\n", "did you mean workers"),
        ("threads = 0\n", "prefork.toml:1: "),
        ("bind = 'tcp://127.0.0.1:{busy}'\n", "address already in use"),
    ],
    ids=["a syntax error", "an unknown key", "a wrong value", "a busy port"],
)
def test_a_broken_configuration_leaves_the_old_serving(serve: Serve, project: Path, document: str, cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        (project / "prefork.toml").write_text('bind = "tcp://127.0.0.1:0"\n')
        with serve(workers=1, bind=[]) as server, steady_load(server.address) as crowd:
            (project / "prefork.toml").write_text(document.format(busy=busy.getsockname()[1]))
            with pytest.raises(NotDone) as failure:
                server.reload()
            crowd.wait_for_more()

            assert cause in str(failure.value)
            assert crowd.failures == []
            (project / "prefork.toml").write_text('bind = "tcp://127.0.0.1:0"\n')
            server.reload()


@pytest.mark.fault("order-during-reload")
def test_a_stop_wins_over_a_reload(serve: Serve, project: Path) -> None:
    with serve(workers=1, boot_timeout=60) as server:
        (project / "app.py").write_text("import threading\nthreading.Event().wait()\n")
        server.signal(signal.SIGHUP)
        server.wait_for_log("starting mold", count=2)

        assert server.stop() == 0


@pytest.mark.parametrize("target", ["app:Handler", "socketserver:ThreadingTCPServer"], ids=["ours", "foreign"])
def test_a_canary_that_does_not_accept_yet_obeys_a_stop(serve: Serve, target: str) -> None:
    options = {"handler": "app:Handler"} if target != "app:Handler" else {}
    with serve(target, workers=1, canary_time=60, **options) as server:
        server.signal(signal.SIGHUP)
        eventually(lambda: len(server.workers()) == 2)

        assert server.stop() == 0
        assert "killing" not in server.log


def test_a_canary_serves_in_the_second_half_of_its_trial(serve: Serve) -> None:
    with serve(workers=1, canary_time=8) as server:
        server.signal(signal.SIGHUP)
        server.wait_for_log("the canary of generation 2")
        eventually(lambda: ask_once(server.address, "generation") == "2")

        assert "trial passed" not in server.log
