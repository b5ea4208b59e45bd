"""`prefork check`: says what a target is, imports it as a worker would, and leaves nothing running."""

import http.server
import json
import socketserver
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import prefork.socketserver as drop_in
from prefork.address import parse_bind
from prefork.cli.worst_case import OwnLoop, find_own_loop, find_worst_case, find_worst_case_of_own_loop
from prefork.config.settings import Settings

APPLICATION = """
import os
import socketserver
import threading

import prefork.serving

class Messages(prefork.serving.MessageRequestHandler):
    def handle_message(self):
        pass

class Pooled(prefork.serving.ThreadPoolTCPServer):
    pass

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        pass

class Server(socketserver.ThreadingTCPServer):
    RequestHandlerClass = Handler

class Serial(socketserver.TCPServer):
    RequestHandlerClass = Handler

class Forking(socketserver.ForkingTCPServer):
    RequestHandlerClass = Handler
    max_children = 5

def make():
    return Handler

instance = socketserver.TCPServer(("127.0.0.1", 0), Handler) if "INSTANCE" in os.environ else None

if "THREAD" in os.environ:
    threading.Thread(target=threading.Event().wait, name="endless").start()
if "BROKEN" in os.environ:
    raise RuntimeError("no such database")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def check(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the import changes the process as it would a worker."""
    words = [sys.executable, "-m", "prefork", "check", *arguments]
    return subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("app:Handler", "a handler class, served by prefork's pool of threads"),
        ("app:Server", "a server class, served by its own loop"),
        ("app:make", "a factory, served by what it returns"),
        ("app:make()", "a factory, served by what it returns"),
    ],
)
def test_a_check_says_what_the_target_is(directory: Path, target: str, what: str) -> None:
    done = check(directory, target, "--workers", "3", "--bind", ":1", "--bind", "udp://:1")

    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith(
        f"{target} is {what}\nworkers: 3\nlistener: tcp://0.0.0.0:1\nlistener: udp://0.0.0.0:1\n"
    )


def test_what_its_own_loop_cannot_use_is_said(directory: Path) -> None:
    done = check(directory, "app:instance", "--env", "INSTANCE=1")

    assert done.stdout.startswith("app:instance is a server instance, served by its own loop\n")
    assert "not available: --threads: " in done.stdout
    assert "cannot be forked" not in done.stdout


@pytest.mark.parametrize("arguments", [("socketserver:ThreadingTCPServer",), ("http.server:ThreadingHTTPServer",)])
def test_a_server_class_without_the_handler_that_it_needs_is_3_as_it_would_be_when_run(
    directory: Path, arguments: tuple[str, ...]
) -> None:
    done = check(directory, *arguments)

    assert (done.returncode, done.stdout) == (3, "")
    assert f"{arguments[0]} needs a handler: give --handler MODULE:NAME" in done.stderr
    assert check(directory, *arguments, "--handler", "app:Handler").returncode == 0


def test_an_import_that_leaves_a_thread_is_worth_a_warning_and_does_not_hang_the_check(directory: Path) -> None:
    done = check(directory, "app:Handler", "--env", "THREAD=1")

    assert done.returncode == 0
    assert "warning: the import leaves what cannot be forked, thread 'endless'; each worker imports it" in done.stdout


def test_a_target_that_cannot_be_imported_is_3_with_the_traceback(directory: Path) -> None:
    done = check(directory, "app:Handler", "--env", "BROKEN=1", "--env", "THREAD=1")

    assert (done.returncode, done.stdout) == (3, "")
    assert "prefork: " in done.stderr
    assert done.stderr.endswith("RuntimeError: no such database\n")


def test_wrong_settings_are_2(directory: Path) -> None:
    done = check(directory, "app:Handler", "--workers", "0")

    assert (done.returncode, done.stderr) == (2, "prefork: --workers: must be at least 1, not 0\n")


def test_json_has_the_findings(directory: Path) -> None:
    done = check(directory, "app:Handler", "--workers", "3", "--json")

    found = json.loads(done.stdout)
    assert found.pop("worst_case")["connections"] == (3 + 1) * 128  # one is being replaced
    assert found == {
        "target": "app:Handler",
        "kind": "handler class",
        "served_by": "prefork's pool of threads",
        "listeners": ["tcp://127.0.0.1:9999"],
        "workers": 3,
        "warnings": [],
        "unavailable": [],
    }


def test_json_has_the_failure(directory: Path) -> None:
    done = check(directory, "app:Missing", "--json")

    assert done.returncode == 3
    assert json.loads(done.stdout)["ok"] is False


def test_the_worst_case_is_calculated(directory: Path) -> None:
    done = check(directory, "app:Handler", "--json", "--workers", "3", "--threads", "100", "--limit-connections", "250")
    worst = json.loads(done.stdout)["worst_case"]

    assert worst["connections"] == 250
    assert worst["descriptors"] == 16 + 2 + 100
    assert worst["memory_bytes"] > 10 << 20


def test_too_few_descriptors_for_the_worst_case_are_warned_about(directory: Path) -> None:
    words = ["sh", "-c", f"ulimit -n 64; exec {sys.executable} -m prefork check app:Handler --threads 64"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=True, timeout=60)

    assert "worst case: 82 descriptors in each worker, which may have 64" in done.stdout
    assert "warning: a worker may need 82 descriptors and may have 64; raise RLIMIT_NOFILE" in done.stdout


def test_workers_make_the_hard_limit_of_descriptors_their_own(directory: Path) -> None:
    words = ["sh", "-c", f"ulimit -Sn 64; exec {sys.executable} -m prefork check app:Handler --threads 64"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=True, timeout=60)

    assert "warning" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("app:Messages",), ("http.server:SimpleHTTPRequestHandler",), ("app:Pooled", "--handler=app:Messages")],
)
def test_the_threads_do_not_bound_connections_that_are_parked(directory: Path, arguments: tuple[str, ...]) -> None:
    free = json.loads(check(directory, *arguments, "--json").stdout)["worst_case"]
    bound = json.loads(check(directory, *arguments, "--json", "--limit-connections", "5000").stdout)["worst_case"]

    assert (free["connections"], free["memory_bytes"]) == (None, None)
    assert (bound["connections"], bound["descriptors"]) == (5000, 16 + 2 + 5000)
    assert "worst case: limit_connections would bound connections" in check(directory, *arguments).stdout


def test_helpers_have_memory_too() -> None:
    alone = find_worst_case(Settings(workers=1), parked=False).memory_bytes
    with_helpers = Settings(workers=1, admin="unix:/run/a", agent="unix:/run/b", reload=True)
    helped = find_worst_case(with_helpers, parked=False).memory_bytes

    assert alone
    assert helped
    assert helped / alone == pytest.approx(6 / 4, rel=0.05)  # two workers while one is replaced, the master, the mold


@pytest.mark.parametrize("parked", [False, True])
def test_encrypted_connections_have_more_memory(parked: bool) -> None:
    options: dict[str, Any] = {"workers": 1, "threads": 4096, "limit_connections": 100_000}
    encrypted = Settings(**options, tls_cert=("cert.pem",))
    clear = Settings(**options, tls_cert=("cert.pem",), bind=(parse_bind("tcp://:1?tls=off"), parse_bind("udp://:1")))
    most, least = (find_worst_case(settings, parked).memory_bytes for settings in (encrypted, clear))

    assert most
    assert least
    assert most - least > (100_000 << 13 if parked else 4096 << 15)


def test_the_worst_case_of_a_factory_is_not_known(directory: Path) -> None:
    done = check(directory, "app:make", "--json")

    assert json.loads(done.stdout)["worst_case"] is None


@pytest.mark.parametrize(
    ("target", "connections", "descriptors"),
    [
        ("app:Serial", (2 + 1) * 2, 16 + 4 + 2),
        ("app:Forking", (2 + 1) * 2 * 5, 16 + 4 + 10),
        ("app:Server", None, 16 + 4),
    ],
    ids=["one by one", "five processes", "a thread for each"],
)
def test_the_worst_case_of_an_own_loop_is_calculated_for_each_listener(
    directory: Path, target: str, connections: int | None, descriptors: int
) -> None:
    bind = ("--bind", "tcp://127.0.0.1:1", "--bind", "tcp://127.0.0.1:2")
    worst = json.loads(check(directory, target, "--json", "--workers", "2", *bind).stdout)["worst_case"]

    assert (worst["connections"], worst["descriptors"]) == (connections, descriptors)
    assert (worst["memory_bytes"] is None) == (connections is None)


def test_an_own_loop_without_a_bound_says_so(directory: Path) -> None:
    lines = check(directory, "app:Server").stdout.splitlines()

    assert [line.partition(";")[0] for line in lines if line.startswith("worst case")] == [
        "worst case: each connection has a thread of its own, until a worker has no descriptor left",
        "worst case: no limit of prefork bounds connections and memory",
    ]


class OwnLoopServer(socketserver.TCPServer):
    def serve_forever(self, poll_interval: float = 0.5) -> None:
        raise NotImplementedError


class OwnProcessingServer(socketserver.ThreadingTCPServer):
    def process_request(self, request: object, client_address: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("server_class", [OwnLoopServer, OwnProcessingServer])
def test_what_a_server_does_by_its_own_code_is_not_guessed(server_class: type) -> None:
    assert find_own_loop(server_class) == OwnLoop(None, why="its own code decides how many connections it takes")


@pytest.mark.parametrize(
    ("server_class", "at_a_time"),
    [
        (drop_in.TCPServer, 1),
        (drop_in.ThreadingTCPServer, None),
        (drop_in.ForkingTCPServer, 40),
        (http.server.ThreadingHTTPServer, None),
        (http.server.HTTPServer, 1),
    ],
)
def test_the_loops_of_both_modules_are_known(server_class: type, at_a_time: int | None) -> None:
    assert find_own_loop(server_class).at_a_time == at_a_time


def test_children_have_memory_too() -> None:
    serial, forking = (
        find_worst_case_of_own_loop(Settings(workers=1), OwnLoop(2, forks=forks), servers=1).memory_bytes
        for forks in (False, True)
    )

    assert serial
    assert forking
    assert forking / serial == pytest.approx(8 / 4, rel=0.05)  # two workers with two children each
