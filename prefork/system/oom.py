"""Whether the kernel's OOM killer has been at work in our control group: it tells nobody whom it killed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def count_oom_kills(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """Return how many processes of our control group it has killed so far; None if that cannot be known.

    Inside a container the path of the group may be that on the host: then the root that we see is ours.
    """
    for line in _read(membership).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = PurePosixPath(path.strip().lstrip("/"))
        if ".." in group.parts:
            group = PurePosixPath()
        if hierarchy == "0":
            places = [cgroups / group / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            places = [cgroups / "memory" / group / "memory.oom_control", cgroups / "memory" / "memory.oom_control"]
        else:
            continue
        for place in places:
            if (count := _oom_kills_in(_read(place))) is not None:
                return count
    return None


def _oom_kills_in(text: str) -> int | None:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):  # not mounted, or hidden from us
        return ""
