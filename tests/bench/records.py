"""An application that holds much, a million records in some 300 MB, and reads a few: for prefork, and as WSGI."""

import gc
import os
import random
import socketserver
from collections.abc import Callable, Iterable

RECORDS = [{"id": number, "name": f"record {number}"} for number in range(1_000_000)]
_READ = 100


def read_some() -> bytes:
    """Read a few records, let the garbage be collected, and say in which process."""
    for record in random.choices(RECORDS, k=_READ):
        assert record["name"]
    gc.collect()
    return b"%d\n" % os.getpid()


class RecordHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(read_some())


def application(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    body = read_some()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
