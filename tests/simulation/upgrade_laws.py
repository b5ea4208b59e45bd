"""What must hold when a successor is started or given up."""

from __future__ import annotations

from prefork.policy.actions import EndSuccessor, StartSuccessor
from tests.simulation.record import Record, require


def check_successor(record: Record, order: StartSuccessor | EndSuccessor) -> None:
    if isinstance(order, EndSuccessor):
        require(record.successor == "starting", "a successor that serves is never ended")
        record.successor = ""
        return
    undecided = [each for each in record.generations.values() if each.outcome == ""]
    require(record.successor == "", "one upgrade at a time")
    require(not record.stopping and not undecided, "an upgrade begins when nothing else is under way")
    record.successor = "starting"
