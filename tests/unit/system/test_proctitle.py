"""What a process is called, in full and in short."""

import os
from pathlib import Path

import pytest

from prefork.system import processes
from prefork.system.proctitle import set_title


@pytest.mark.parametrize(
    ("role", "short"),
    [
        ("master", "prefork-master"),
        ("mold gen 2", "prefork-mold"),
        ("worker 3 gen 2", "prefork-worker"),
        ("admin", "prefork-admin"),
        ("watcher", "prefork-watcher"),
    ],
)
def test_the_title_has_spaces_and_the_short_name_has_none(tmp_path: Path, role: str, short: str) -> None:
    def be_named() -> int:
        set_title(role, "my shop")
        for name in ("cmdline", "comm"):
            (tmp_path / name).write_bytes(Path(f"/proc/self/{name}").read_bytes())
        return 0

    os.waitpid(processes.fork(be_named), 0)

    assert (tmp_path / "comm").read_text() == f"{short}\n"
    assert (tmp_path / "cmdline").read_bytes().rstrip(b"\0 ") == f"prefork: {role} [my shop]".encode()
