"""A soak of some seconds: every kind of client, and what is done in a moment."""

from pathlib import Path

import pytest

from tests.soak.__main__ import shrink, soak

FAULTS = [
    "reset",
    "half_close",
    "garbage_instead_of_tls",
    "upgrade",
    "hang_up_in_the_middle",
    "kill_worker",
    "reload",
    "upgrade_to_broken_code",
    "raise_in_handler",
    "flood",
    "crash_in_handler",
    "hostile_control",
    "upgrade",
    "reopen_logs",
    "reload_broken_code",
]


@pytest.mark.fault("soak")
def test_a_short_soak_breaks_no_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for its log
    history, violations = soak(list(enumerate(FAULTS)), every=0.2, seed=1)

    assert violations == []
    kinds = ["datagram", "datagram, divided", "half-closed", "kept", "parked", "short", "short, divided", "tls"]
    assert sorted(history.answered) == kinds
    assert [fault.kind for fault in history.faults] == FAULTS


def test_a_schedule_is_shrunk_to_what_breaks_a_law() -> None:
    schedule = list(enumerate(["reload"] * 40))
    tried = []

    def breaks(fewer: list[tuple[int, str]]) -> bool:
        tried.append(fewer)
        return {3, 17} <= {number for number, _ in fewer}

    assert shrink(schedule, breaks) == [(3, "reload"), (17, "reload")]
    assert len(tried) < 100
