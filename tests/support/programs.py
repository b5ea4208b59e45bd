"""Programs that a test runs beside its server, until they accept and for as long as they are needed."""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.clients import TIME_LIMIT, eventually


@contextmanager
def running(command: Sequence[str], directory: Path, address: tuple[str, int]) -> Iterator[None]:
    """Run a program until it accepts at its address, and through the block; what it says goes to program.log."""
    output = directory / "program.log"
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: _accepts(address) or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        yield
    finally:
        process.terminate()
        process.wait(TIME_LIMIT)


def _accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, TIME_LIMIT).close()
    except ConnectionRefusedError:
        return False
    return True
