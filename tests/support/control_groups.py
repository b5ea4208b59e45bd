"""A control group for a test: who is put there has no more than that has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import tools


@contextmanager
def control_group(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """Make a control group below ours and write the limits, of which it has those of version 1 or of version 2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2].lstrip("/") for line in lines}
    version_1 = controller in paths
    root = Path("/sys/fs/cgroup", controller if version_1 else "")
    group = root / paths.get(controller if version_1 else "", "") / f"prefork-test-{os.getpid()}"
    limit = next(iter(limits)) if version_1 else list(limits)[-1]
    try:
        group.mkdir()
        (group / limit).write_text(limits[limit])
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        tools.unavailable(f"no control group of our own can be made: {error}")
    yield group
    group.rmdir()
