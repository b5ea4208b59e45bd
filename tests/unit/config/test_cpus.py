"""CPUs: the smallest of affinity and quotas, rounded up, at least one."""

import os
from pathlib import Path

import pytest

from prefork.config.cpus import usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"member": "0::/\n"}, 8),
        ({"member": "0::/\n", "cpu.max": "max 100000\n"}, 8),
        ({"member": "0::/\n", "cpu.max": "50000 100000\n"}, 1),
        ({"member": "0::/\n", "cpu.max": "250000 100000\n"}, 3),
        ({"member": "0::/a/b\n", "a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
        ({"member": "0::/a\n", "a/cpu.max": "9900000 100000\n"}, 8),
        ({"member": "0::/../x\n", "cpu.max": "100000 100000\n"}, 1),
        ({"member": "0::/a\n", "a/cpu.max": "nonsense\n"}, 8),
        ({"member": "3:cpu,cpuacct:/a\n", "cpu/a/cpu.cfs_quota_us": "150000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ({"member": "3:cpu:/\n", "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"member": "3:memory:/a\n", "cpu/a/cpu.cfs_quota_us": "1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, str], count: int) -> None:
    root = write(tmp_path, files)

    assert usable_cpus(root, root / "member") == count


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, tmp_path / "missing") == 8
