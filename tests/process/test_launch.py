"""`prefork.run` in a script: the script becomes the server."""

import signal
import subprocess
import sys
from pathlib import Path

from prefork.testing import Address
from tests.support.clients import ask_once

SCRIPT = """
import socketserver

import prefork


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"{answer}\\n")


if __name__ == "__main__":
    prefork.run(Handler, workers=1, bind=["unix:socket"], canary_time=0)
"""


def test_a_script_serves_its_own_handler_and_reloads_its_own_code(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SCRIPT.format(answer="first"))
    with subprocess.Popen([sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address: Address = str(tmp_path / "socket")
        ready = next(line for line in server.stderr if " ready: " in line)
        assert f"pid={server.pid}" in ready
        assert ask_once(address, "x") == "first"

        script.write_text(SCRIPT.format(answer="other"))
        server.send_signal(signal.SIGHUP)
        next(line for line in server.stderr if " reload complete: " in line)
        assert ask_once(address, "x") == "other"
        server.terminate()
        server.stderr.read()
        assert server.wait(30) == 0
