"""The pid file: whose it is, and for how long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefork.errors import UsageError
from prefork.system.pidfile import Pidfile

HOLDER = """
import sys
from prefork.system.pidfile import Pidfile
Pidfile(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

TAKER = """
import os, resource
from prefork.errors import UsageError
from prefork.system.pidfile import Pidfile
{act}
try:
    Pidfile("pid")
except UsageError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


@pytest.mark.parametrize("umask", [0, 0o777])
def test_it_holds_our_pid_and_everybody_may_read_it(path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        pidfile = Pidfile(str(path))
    finally:
        os.umask(previous)

    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    pidfile.close()
    assert not path.exists()


def test_a_stale_one_is_taken_over(path: Path) -> None:
    path.write_text("1234567890\nand more")
    pidfile = Pidfile(str(path))

    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.close()


def test_one_that_a_living_process_holds_is_refused_and_free_when_that_is_dead(path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError, match=f"process {holder.pid} has it locked"):
            Pidfile(str(path))
        assert path.read_text() == f"{holder.pid}\n"
        holder.kill()
    Pidfile(str(path)).close()


def test_only_ours_is_removed(path: Path) -> None:
    pidfile = Pidfile(str(path))
    path.unlink()
    path.write_text("somebody else's\n")
    pidfile.close()

    assert path.read_text() == "somebody else's\n"


def test_no_symbolic_link_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    path.symlink_to(tmp_path / "precious")

    with pytest.raises(UsageError, match="it is a symbolic link"):
        Pidfile(str(path))
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("kind", ["fifo", "directory", "nothing"])
def test_what_cannot_be_a_pid_file_is_an_error_that_says_why(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = path / "missing" / "pid"

    causes = {"fifo": "no regular file", "directory": "is a directory", "nothing": "does not exist"}
    with pytest.raises(UsageError, match=causes[kind]):
        Pidfile(str(path))


@pytest.mark.root
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("os.setuid(65534)", "it belongs to another user (remove it, or name another)"),
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", "file too large"),
    ],
    ids=["of another user", "no room"],
)
def test_what_cannot_be_written_is_an_error_that_says_why(path: Path, act: str, reason: str) -> None:
    path.touch()
    path.chmod(0o666)
    path.parent.chmod(0o755)
    command = [sys.executable, "-c", TAKER.format(act=act)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False, timeout=60)

    assert (done.stdout, done.stderr) == (f"cannot write the pid file pid: {reason}\n", "")
