"""A system call of a running process that fails, or waits, because strace says so."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import tools
from tests.support.clients import TIME_LIMIT


class Injection:
    """What a tracer has done so far."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    @property
    def count(self) -> int:
        """The number of system calls that were tampered with."""
        return self._trace.read_text().count("(INJECTED)") + self._trace.read_text().count("(DELAYED)")

    @property
    def signals(self) -> int:
        """The number of signals that were sent by tampering; those of others have another code."""
        return self._trace.read_text().count("si_code=SI_KERNEL")


@contextmanager
def injected(pid: int, fault: str, directory: Path) -> Iterator[Injection]:
    """Tamper with a process and all its threads: `accept4:error=EMFILE:when=1..2`, as strace(1) has it."""
    tools.require("strace")
    trace = directory / f"strace.{pid}"
    call = fault.partition(":")[0]
    command = ["strace", "-f", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={fault}", "-o", str(trace)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    reader = threading.Thread(target=tracer.stderr.read)
    try:
        said = tracer.stderr.readline()
        if "attached" not in said:
            tools.unavailable(f"strace cannot attach: {said.strip()}")
        reader.start()  # what else it says must not fill the pipe
        yield Injection(trace)
    finally:
        tracer.terminate()
        try:
            tracer.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            tracer.kill()  # it waits for a thread that is about to end; the kernel lets go of the others
            tracer.wait()
        if reader.ident is not None:
            reader.join(TIME_LIMIT)
        tracer.stderr.close()
