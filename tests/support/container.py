"""A whole Debian with its systemd, booted in a container from an image that is made once and never changed."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.clients import eventually

ROOT = Path(__file__).resolve().parent.parent.parent
_PROJECT = "/usr/lib/python3/dist-packages/prefork"
_CLONE_NEWNET = 0x40000000


def make_image() -> Path:
    """Return the directory of the image, which is made if there is none yet."""
    done = subprocess.run([ROOT / "tests/systemd/image"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


class Container:
    """A booted container. What it writes is gone when it ends."""

    def __init__(self, image: Path, console: Path) -> None:
        command = [
            "setpriv", "--pdeathsig=KILL",  # whatever becomes of the tests
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=overlay",
            f"--machine=prefork-{os.getpid()}", f"--directory={image}", f"--bind-ro={ROOT}/prefork:{_PROJECT}",
            "--boot",
        ]  # fmt: skip
        with open(console, "wb") as output:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._leader = 0
        eventually(self._booted, seconds=90)

    def _booted(self) -> bool:
        pid = self._nspawn.pid
        assert self._nspawn.poll() is None, "systemd-nspawn has ended"
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        return self.try_("systemctl", "is-system-running", "--wait").stdout.strip() in ("running", "degraded")

    def try_(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container and return how it ended."""
        entered = ["nsenter", f"--target={self._leader}", "--all", "--", *command]
        return subprocess.run(entered, capture_output=True, text=True, timeout=90, check=False)

    def run(self, *command: str) -> str:
        """Run a command in the container that must end well; return what it wrote."""
        done = self.try_(*command)
        assert done.returncode == 0, (
            f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}{self.journal()}"
        )
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the container, and do not wait for it."""
        entered = ["nsenter", f"--target={self._leader}", "--all", "--", *command]
        return subprocess.Popen(entered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def journal(self) -> str:
        """Return the last of what its services logged."""
        return self.try_("journalctl", "--no-pager", "--lines=60").stdout

    def path(self, name: str) -> Path:
        """Return where a file of the container can be reached from outside."""
        return Path(f"/proc/{self._leader}/root/{name.lstrip('/')}")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the container, with the directories it needs."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Open sockets in the network of the container: those of this thread, and of threads that it starts."""
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self._leader}/ns/net") as theirs:
            _set_network(theirs.fileno())
            try:
                yield
            finally:
                _set_network(ours.fileno())

    def close(self) -> None:
        """End the container and all that runs in it."""
        os.kill(self._leader, signal.SIGKILL)
        self._nspawn.wait(60)


def _set_network(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
