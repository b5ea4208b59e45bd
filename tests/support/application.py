"""The application that process tests serve: a line protocol whose clients decide when and how things go wrong.

Written to a file, so that a test can change the code that a reload will find.
"""

from pathlib import Path

SOURCE = '''
import os
import signal
import socketserver
import sys
import time

VERSION = {version!r}


class Handler(socketserver.StreamRequestHandler):
    """Answers each line; `hold` needs no command: an open connection is being served."""

    def handle(self):
        for line in self.rfile:
            word, _, rest = line.decode().strip().partition(" ")
            match word:
                case "version":
                    self.reply(VERSION)
                case "pid":
                    self.reply(os.getpid())
                case "slot":
                    self.reply(os.environ["PREFORK_WORKER_SLOT"])
                case "generation":
                    self.reply(os.environ["PREFORK_GENERATION"])
                case "echo":
                    self.reply(rest)
                case "draining":
                    self.reply(getattr(self.server, "draining", None))
                case "spin":  # seconds of CPU
                    end = time.thread_time() + float(rest)
                    while time.thread_time() < end:
                        pass
                    self.reply("spun")
                case "exit":
                    os._exit(int(rest))
                case "abort":
                    os.abort()
                case "raise":
                    raise ValueError(rest)
                case "sysexit":
                    sys.exit(rest)
                case "eval":
                    self.reply(eval(rest))

    def reply(self, what):
        self.wfile.write(f"{{what}}\\n".encode())


class Datagrams(socketserver.DatagramRequestHandler):
    """Answers a datagram with the version and the datagram."""

    def handle(self):
        self.wfile.write(VERSION.encode() + b" " + self.rfile.read())
'''


WAITING_FOR_GO = "\nimport pathlib, select\nwhile not pathlib.Path('go').exists(): select.select([], [], [], 0.05)\n"
"""What an application does whose import ends when there is a file `go`."""


def write_application(directory: Path, version: str = "1", extra: str = "") -> Path:
    """Write app.py into the directory, whole or not at all, and return its path."""
    path = directory / "app.py"
    fresh = directory / "app.py.new"
    fresh.write_text(SOURCE.format(version=version) + extra)
    fresh.replace(path)
    return path
