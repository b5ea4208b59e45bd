"""Which system calls a connection costs a server: strace counts those of a pool while clients come one after another.

    python -m tests.bench.system_calls [CONNECTIONS]

Counts do not depend on how busy the machine is, except for futex: how often threads wait for each other.
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from prefork.serving import MessageRequestHandler, ThreadPoolTCPServer
from prefork.socketserver import BaseRequestHandler, StreamRequestHandler

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "MARK"


class Base(BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data)


class Stream(StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class Messages(MessageRequestHandler):
    def handle_message(self) -> None:
        self.wfile.write(self.rfile.readline())


HANDLERS = {handler.__name__: handler for handler in (Base, Stream, Messages)}


def serve(name: str) -> None:
    """Be the traced process, until its standard input ends."""
    server = ThreadPoolTCPServer(("127.0.0.1", 0), HANDLERS[name])
    threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


def visit(port: int, *lines: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as answers:
        for line in lines:
            client.sendall(f"{line}\n".encode())
            assert answers.readline()
        client.shutdown(socket.SHUT_WR)
        assert not answers.read()


def count(name: str, connections: int, messages: int) -> Counter[str]:
    """Trace a server while it serves so many connections with so many messages each."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as trace:
        command = ["strace", "-f", "-o", trace.name, sys.executable, "-m", __spec__.name, name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as traced:
            assert traced.stdin is not None
            assert traced.stdout is not None
            port = int(traced.stdout.readline())
            visit(port, "warm")
            visit(port, MARK)
            for _ in range(connections):
                visit(port, *(["x"] * messages))
            traced.stdin.close()
        _, _, counted = trace.read().partition(MARK)
    return Counter(re.findall(r"^\d+ +(\w+)\(", counted, re.MULTILINE))


def main(connections: int) -> int:
    if shutil.which("strace") is None:
        print("strace is not installed (tests/setup installs it)")
        return 1
    for name in HANDLERS:
        for messages in (1, 11):
            calls = count(name, connections, messages)
            shares = ", ".join(f"{call} {number / connections:.1f}" for call, number in calls.most_common(12))
            print(f"{name}, {messages} messages a connection: {shares}", flush=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in HANDLERS:
        serve(sys.argv[1])
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
