"""A target that cannot be served: the start ends with status 3, and one line of the log says what to change."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Serve

BROKEN = """
import socketserver

from app import Datagrams, Handler

number = 3


def make_one():
    return socketserver.ThreadingTCPServer(("127.0.0.1", 8001), Handler)


def make_udp():
    return socketserver.ThreadingUDPServer(("127.0.0.1", 8053), Datagrams)


def make_nothing():
    pass


def make_trouble():
    raise ValueError("the cause")


class Careful(Handler):
    @classmethod
    def on_worker_start(cls, server):
        raise ValueError("the cause")
"""
ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no such module": ({"target": "brokn:Handler"}, "there is no module 'brokn' in {cwd}"),
    "the nearest module": ({"target": "brokn:Handler"}, "did you mean broken?"),
    "no such submodule": ({"target": "app.views:Handler"}, "app is a module, not a package"),
    "a missing dependency": ({"target": "needy:Handler"}, "it needs the module 'not_installed'"),
    "no such name": ({"target": "app:Handlr"}, "app has no 'Handlr'; did you mean Handler?"),
    "a syntax error": ({"target": "unclosed:Handler"}, "SyntaxError in unclosed.py:2"),
    "a script": ({"target": "script:Handler"}, "it ended the program (sys.exit(0))"),
    "no target": ({"target": "broken:number"}, "broken:number is of type int"),
    "no handler": ({"target": "socketserver:ThreadingTCPServer"}, "give --handler"),
    "a missing handler": (
        {"target": "socketserver:ThreadingTCPServer", "handler": "app:Handlr"},
        "app has no 'Handlr'; did you mean Handler?",
    ),
    "a missing attribute": ({"target": "app:Handler", "server": {"zone": "@app:ZONE"}}, "app has no 'ZONE'"),
    "a listener nobody serves": (
        {"target": "broken:make_one", "bind": ["tcp://127.0.0.1:0", f"unix:@prefork-nobody-{os.getpid()}"]},
        f"nobody serves unix:@prefork-nobody-{os.getpid()}",
    ),
    "a class of another kind": (
        {"target": "socketserver:ThreadingUDPServer", "handler": "app:Datagrams"},
        "cannot serve tcp://127.0.0.1:0: it is a server of UDP",
    ),
    "a listener that was not given": ({"target": "broken:make_udp"}, "add --bind udp://127.0.0.1:8053"),
    "a factory of nothing": ({"target": "broken:make_nothing"}, "broken:make_nothing returned nothing"),
    "a factory that raises": ({"target": "broken:make_trouble"}, "ValueError: the cause (broken.py:"),
    "a hook that raises": ({"target": "broken:Careful"}, "on_worker_start failed: ValueError: the cause (broken.py:"),
}


@pytest.fixture(autouse=True)
def _broken_code(project: Path) -> None:
    (project / "broken.py").write_text(BROKEN)
    (project / "needy.py").write_text("import not_installed\n")
    (project / "unclosed.py").write_text("# a comment\ndef handle(:\n")
    (project / "script.py").write_text("import sys\nsys.exit(0)\n")


@pytest.mark.parametrize("preload", ["auto", "never"])
@pytest.mark.parametrize("what", ERRORS)
def test_the_start_ends_with_status_3_and_says_why(serve: Serve, project: Path, what: str, preload: str) -> None:
    options, explanation = ERRORS[what]
    with serve(**options, preload=preload, wait_until_ready=False) as server:
        assert server.wait() == 3

    explained = [line for line in server.log.splitlines() if explanation.format(cwd=project) in line]
    assert explained, server.log
    assert " ERROR " in explained[0]


def test_the_code_of_an_error_is_shown(serve: Serve) -> None:
    with serve("broken:make_trouble", wait_until_ready=False) as server:
        assert server.wait() == 3

    assert '    raise ValueError("the cause")' in server.log
    assert "/prefork/worker/" not in server.log, "our own frames hide those that matter"
