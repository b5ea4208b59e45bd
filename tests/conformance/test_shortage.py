"""A process without a descriptor left neither spins nor dies, and says what is the matter."""

import os
import subprocess
import sys

import pytest

from tests.conformance.actors import PATIENCE

SHORTAGE = """
import os, resource, socket, sys, threading
import prefork.socketserver as socketserver

class Server(socketserver.TCPServer):
    attempts = turns = 0
    def get_request(self):
        self.attempts += 1
        return super().get_request()
    def service_actions(self):
        self.turns += 1
        if self.turns == 200:
            print("attempts", self.attempts, flush=True)
            os.close(spare)

server = Server(("127.0.0.1", 0), lambda request, address, server: server.shutdown())
client = socket.create_connection(server.server_address)
spare = os.open("/dev/null", os.O_RDONLY)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1 + int(sys.argv[1]), most))
server.serve_forever(0)
print("served")
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("left", [0, 2], ids=["none for the wake-up", "two for the wake-up"])
def test_a_full_descriptor_table_does_not_make_the_loop_spin(left: int, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", SHORTAGE, str(left)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)

    attempts, served = ended.stdout.splitlines()
    assert int(attempts.split()[1]) < 20  # one a turn would be 200
    assert served == "served"
    first, last = ended.stderr.splitlines()
    assert first.startswith("cannot accept on ('127.0.0.1', ")
    assert first.endswith("Too many open files; the listener rests, then tries again")
    assert last.endswith("again: the shortage is over")


def test_an_error_is_reported_when_no_descriptor_is_left(environment: dict[str, str]) -> None:
    program = """
import os, resource, socket
import prefork.socketserver as socketserver

def handler(request, address, server):
    server.shutdown()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    raise ValueError("a reason")

server = socketserver.TCPServer(("127.0.0.1", 0), handler)
client = socket.create_connection(server.server_address)
server.serve_forever()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert "ValueError: a reason" in ended.stderr
    assert ended.returncode == 0
