"""How many CPUs this process may use: its affinity mask, cut down by the CPU quota of its control group.

A container with a quota of half a CPU on a machine of 64 wants one worker, not 64. All groups from ours up to the root
count, since a quota binds everything below it; with both versions of control groups mounted, both are asked.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Count the CPUs, at least 1; a fraction of a quota counts as a whole one."""
    quotas = [float(len(os.sched_getaffinity(0))), *_quotas(cgroups, membership)]
    return max(1, math.ceil(min(quotas)))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    for line in _read(membership).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            yield from _quotas_of_version_2(cgroups, path)
        elif "cpu" in controllers.split(","):
            yield from _quotas_of_version_1(cgroups, path)


def _quotas_of_version_2(cgroups: Path, path: str) -> Iterator[float]:
    for directory in _upwards(cgroups, path):
        limit, _, period = _read(directory / "cpu.max").partition(" ")
        yield from _share(limit, period)


def _quotas_of_version_1(cgroups: Path, path: str) -> Iterator[float]:
    for directory in _upwards(cgroups / "cpu", path):
        yield from _share(_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """List our group and those above it; inside a container the path may name what only the host sees."""
    group = PurePosixPath("/" + path.strip().lstrip("/"))
    if ".." in group.parts:
        group = PurePosixPath("/")
    yield from (root / part.relative_to("/") for part in (group, *group.parents))


def _share(limit: str, period: str) -> Iterator[float]:
    """A quota of "max" or -1 is none."""
    if limit.strip().isdigit() and period.strip().isdigit() and int(period) > 0:
        yield int(limit) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):  # not mounted, not readable, or a name the file system refuses: no quota known
        return ""
