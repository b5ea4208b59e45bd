"""The OOM killer's count, as control groups of both versions tell it."""

from pathlib import Path

import pytest

from prefork.system.oom import count_oom_kills


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("membership", "place", "text"),
    [
        ("0::/app.slice\n", "app.slice/memory.events", "low 0\noom 4\noom_kill 3\n"),
        ("4:memory:/app\n0::/\n", "memory/app/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ("0::/on/the/host\n", "memory.events", "oom_kill 3\n"),
        ("0::/../..\n", "memory.events", "oom_kill 3\n"),
    ],
    ids=["version 2", "version 1", "container", "outside"],
)
def test_the_count_of_our_group_is_found(tmp_path: Path, membership: str, place: str, text: str) -> None:
    write(tmp_path / "cgroups" / place, text)

    assert count_oom_kills(tmp_path / "cgroups", write(tmp_path / "membership", membership)) == 3


def test_without_control_groups_nothing_is_known(tmp_path: Path) -> None:
    assert count_oom_kills(tmp_path, tmp_path / "none") is None
    assert count_oom_kills(tmp_path, write(tmp_path / "membership", "0::/app\n3:cpu:/app\n")) is None
