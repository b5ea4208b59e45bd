"""A service manager as a server sees it: a datagram socket that it tells things, and sockets that are passed to it.

What it is told to keep, it keeps and passes to the next start, as systemd does.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.clients import TIME_LIMIT

# The protocol passes descriptors from 3 on, and names the process that they are for.
_START = """
import fcntl, os, sys
count = int(sys.argv[1])
moved = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2 : 2 + count]]
for place, number in enumerate(moved):
    os.dup2(number, 3 + place)
os.closerange(3 + count, 1000)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))
command = sys.argv[2 + count :]
os.execv(command[0], command)
"""


class ServiceManager:
    """Starts one service, hears it, and keeps what it is given."""

    def __init__(self, address: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = {"NOTIFY_SOCKET": address, **environment}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(TIME_LIMIT)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.process: subprocess.Popen[bytes] | None = None
        self.store: dict[str, int] = {}

    def start(self, *words: str) -> None:
        """Start the service; pass it what is kept."""
        numbers = list(self.store.values())
        environment = {**os.environ, **self._environment, "LISTEN_FDNAMES": ":".join(self.store)}
        command = [sys.executable, "-m", "prefork", "run", *words, "--log-file", str(self._directory / "log")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(len(numbers)), *map(str, numbers), *command],
            cwd=self._directory,
            env=environment,
            pass_fds=numbers,
        )

    def hear(self) -> dict[str, str]:
        """Return the next message, having done what it asks for."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 8)
        message = dict(line.split("=", 1) for line in data.decode().split("\n"))
        if "FDSTORE" in message:
            (self.store[message["FDNAME"]],) = descriptors
        if "FDSTOREREMOVE" in message:
            os.close(self.store.pop(message["FDNAME"]))
        return message

    def hear_until(self, name: str, beginning: str = "") -> list[dict[str, str]]:
        """Return the messages up to the first one in which `name` has a value that begins like this."""
        heard = [self.hear()]
        while name not in heard[-1] or not heard[-1][name].startswith(beginning):
            heard.append(self.hear())
        return heard

    def hear_nothing_but(self, names: Sequence[str], seconds: float) -> bool:
        """Tell whether for so long nothing comes but messages of these names."""
        self._socket.settimeout(seconds)
        try:
            while set(self.hear()) <= set(names):
                pass
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(TIME_LIMIT)
        return False

    def fill(self) -> None:
        """Fill the queue of the socket, as if we did not read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            try:
                while True:
                    other.sendto(b"STATUS=", self._socket.getsockname())
            except BlockingIOError:
                pass

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until the main process has ended."""
        assert self.process is not None
        return self.process.wait(TIME_LIMIT)

    def log(self) -> str:
        """Return what the service has logged."""
        return (self._directory / "log").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(TIME_LIMIT)
        for descriptor in self.store.values():
            os.close(descriptor)
        self._socket.close()
