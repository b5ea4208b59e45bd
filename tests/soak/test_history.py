"""The laws of a soak, applied to histories that keep or break them."""

from tests.soak.history import Fault, History, Request


def a_fault(at: float, costs: bool = False, drains: bool = False) -> Fault:
    return Fault(0, "a fault", costs, drains, asks=False, began=at, ended=at)


def lost(client: str, at: float, failure: str = "ConnectionResetError") -> Request:
    return Request(client, f"{client} 7", at - 0.1, at, failure)


def test_a_history_without_losses_breaks_no_law() -> None:
    history = History()
    history.note(Request("half-closed-0", "half-closed-0 1", 1.0, 1.5))

    assert history.violations() == []
    assert history.answered == {"half-closed": 1}
    assert history.longest == 0.5


def test_a_loss_needs_a_costly_fault_near_it() -> None:
    history = History(lost=[lost("short-1", at=100.0)])
    history.faults.append(a_fault(99.0))
    assert history.violations() == [
        "short-1 lost 'short-1 7' (ConnectionResetError) at 100.00, and no fault explains it"
    ]

    history.faults.append(a_fault(99.0, costs=True))
    assert history.violations() == []
    assert history.summary()["lost because of"] == {"a fault": 1}


def test_only_kept_connections_may_be_cut_when_a_drain_is_over() -> None:
    history = History(faults=[a_fault(95.0, drains=True)])
    history.lost = [lost("kept-0", at=100.0), lost("parked-0", at=100.0), lost("tls-0", at=100.0)]

    assert [violation.split()[0] for violation in history.violations()] == ["parked-0", "tls-0"]


def test_no_fault_excuses_a_connection_that_stays_silent() -> None:
    history = History(lost=[lost("kept-1", 100.0, "TimeoutError")], faults=[a_fault(99.0, costs=True)])

    assert history.violations() == ["kept-1 waited in vain for 'kept-1 7' until 100.00"]


def test_a_missing_worker_needs_a_costly_fault_near_it() -> None:
    history = History(workers=[(50.0, 4, 4), (100.0, 3, 4)])
    assert history.violations() == ["3 of 4 workers served at 100.00, and no fault explains it"]

    history.faults.append(a_fault(99.0, costs=True))
    assert history.violations() == []


def test_a_wrong_answer_is_a_violation() -> None:
    history = History()
    history.note_wrong("short-1 asked 'a' and was answered 'b'")

    assert history.violations() == ["short-1 asked 'a' and was answered 'b'"]
