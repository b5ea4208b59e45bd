"""Workers that are replaced because of what they have served, hold or are, and their number that follows the load."""

import json
import threading
from contextlib import ExitStack

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import control
from tests.support import tools
from tests.support.clients import LineClient, ask_once, eventually, steady_load
from tests.support.processes import suspended


def pids(server: Server) -> set[int]:
    return {worker["pid"] for worker in server.workers()}


@pytest.mark.fault("recycled-together")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_have_served_their_share_are_replaced_under_load(serve: Serve, workers: int) -> None:
    with serve(workers=workers, max_requests=50, max_requests_jitter=50) as server:
        first = pids(server)
        with steady_load(server.address) as crowd:
            eventually(lambda: not first & pids(server))
            crowd.wait_for_more()

        assert crowd.failures == []
        assert "recycled: served " in server.wait_for_log("draining worker, ", count=workers)
        assert server.stop() == 0


@pytest.mark.fault("oom")
def test_a_worker_that_holds_too_much_memory_is_replaced(serve: Serve) -> None:
    with serve(workers=2, max_rss="300M") as server:
        with LineClient(server.address) as client:
            hog = int(client.ask("pid"))
            client.ask("eval len(globals().setdefault('hoard', bytes([1]) * (400 << 20)))")
        server.wait_for_log("(max_rss) for 3 readings in a row")
        eventually(lambda: hog not in pids(server) and len(pids(server)) == 2)

        assert server.log.count("recycling worker: ") == 1


def test_a_worker_that_is_old_is_replaced_before_it_leaves(serve: Serve) -> None:
    with serve(workers=1, max_age="2s") as server, LineClient(server.address) as client:
        old = int(client.ask("pid"))
        server.wait_for_log("recycled: served for ")

        eventually(lambda: old not in pids(server))
        assert client.ask("pid") == str(old)  # what is open goes on


def test_recycle_replaces_every_worker_without_losing_a_request(serve: Serve) -> None:
    with serve(workers=3) as server, steady_load(server.address) as crowd:
        before = pids(server)
        done = control(server, "recycle")
        after = pids(server)
        crowd.wait_for_more()

        assert (done.returncode, done.stdout) == (0, "recycled: 3 workers were replaced\n"), done.stderr
        assert len(after) == 3
        assert not before & after
        assert crowd.failures == []
        assert server.status()["generation"] == 1


def test_recycle_replaces_the_worker_of_a_slot(serve: Serve) -> None:
    with serve(workers=2) as server:
        before = {worker["slot"]: worker["pid"] for worker in server.workers()}
        done = json.loads(control(server, "recycle", "1", "--json").stdout)

        assert done == {"ok": True, "result": {"reason": "1 worker was replaced"}}
        assert before[0] in pids(server)
        assert before[1] not in pids(server)


def test_a_slot_in_which_nobody_serves_is_refused(serve: Serve) -> None:
    with serve(workers=1) as server:
        done = control(server, "recycle", "7")

        assert done.returncode == 1
        assert "no worker that could be serves in slot 7" in done.stderr


def test_the_number_of_workers_follows_the_load(serve: Serve) -> None:
    with serve(min_workers=1, max_workers=3, workers=1, threads=6, time_limit=90) as server:
        stop = threading.Event()

        def burn() -> None:
            while not stop.is_set():
                ask_once(server.address, "eval __import__('threading').Event().wait(0.2)")

        # More than half of the threads of one worker; nobody computes or waits for a thread, so there is no queue.
        burning = [threading.Thread(target=burn) for _ in range(5)]
        for thread in burning:
            thread.start()
        try:
            line = server.wait_for_log("scaled: workers are ")
            eventually(lambda: len(server.workers()) >= 2)
        finally:
            stop.set()
            for thread in burning:
                thread.join()
        shrunk = server.wait_for_log("scaled: workers were ")

        assert "% busy; 2 workers wanted instead of 1" in line
        assert "and for 10 readings below 25%" in shrunk


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "unix:socket"])
def test_a_queue_that_grows_gets_help_though_the_worker_looks_idle(serve: Serve, bind: str) -> None:
    if bind.startswith("unix:"):
        tools.require_unix_queues()
    with serve(bind=[bind], min_workers=1, max_workers=2, workers=1) as server:
        (worker,) = server.workers()
        with suspended(worker["pid"]), ExitStack() as stack:
            clients = [stack.enter_context(LineClient(server.address)) for _ in range(5)]
            line = server.wait_for_log("connections wait to be accepted")
            assert [client.ask("version") for client in clients] == ["1"] * 5
        assert "did before; 2 workers wanted" in line


def test_a_drained_server_serves_on_and_says_that_it_is_not_ready(serve: Serve) -> None:
    with serve(workers=1) as server:
        drained = control(server, "drain")
        server.reload()
        health, text = control(server, "health"), control(server, "status").stdout
        answer = ask_once(server.address, "version")
        status = server.status()
        scaled = control(server, "scale", "2")
        undrained = control(server, "undrain")

        assert (drained.returncode, drained.stdout) == (0, "drained: announced as not ready, serving on\n")
        assert (status["ready"], status["draining"], status["state"]) == (False, True, "serving")
        assert (health.returncode, health.stdout) == (1, "not ready: serving, drained\n")
        assert "serving, drained (not ready)" in text
        assert answer == "1"
        assert scaled.returncode == 0
        assert (undrained.returncode, undrained.stdout) == (0, "undrained: ready\n")
        assert server.status()["ready"] is True
