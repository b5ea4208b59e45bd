"""Equal workers are equally busy: where the next connection goes."""

from collections import Counter

from prefork import testing
from tests.process.conftest import Serve
from tests.support.clients import LineClient, ask_once, eventually


def accepted(server: testing.Server) -> list[int]:
    return [worker["accepted"] for worker in server.workers()]


def test_connections_one_after_another_go_to_all_workers_alike(serve: Serve) -> None:
    with serve(workers=4) as server:
        for _ in range(2000):
            ask_once(server.address, "echo x")
        eventually(lambda: sum(accepted(server)) == 2000)

        assert max(accepted(server)) <= 1.2 * min(accepted(server))


def test_a_busy_worker_leaves_the_next_connection_to_a_less_busy_one(serve: Serve) -> None:
    with serve(workers=2) as server:
        held = [LineClient(server.address) for _ in range(40)]
        slots = Counter(client.ask("slot") for client in held)
        for client in held:
            client.close()

    # 20 each, but for those that a worker took because the other had not got the processor in time.
    assert min(slots["0"], slots["1"]) >= 16


def test_connections_do_not_queue_behind_a_worker_that_computes(serve: Serve) -> None:
    slots: Counter[str] = Counter()
    with serve(workers=2) as server, LineClient(server.address) as computing:
        busy = computing.ask("slot")
        for _ in range(20):
            computing.send("spin 0.05")
            with LineClient(server.address) as other:
                slots[other.ask("slot")] += 1
            assert computing.read() == "spun"

    assert slots[busy] <= 4
