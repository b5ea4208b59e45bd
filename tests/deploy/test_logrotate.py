"""logrotate with the file of deploy/logrotate, but for the places that it names."""

import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY
from tests.process.conftest import Serve
from tests.support import tools
from tests.support.clients import ask_once

FILE = DEPLOY / "logrotate/prefork-shop"


@pytest.mark.needs("logrotate")
def test_the_file_is_what_logrotate_expects(tmp_path: Path) -> None:
    copy = tmp_path / "prefork-shop"
    copy.write_text(FILE.read_text())
    copy.chmod(0o644)

    said = tools.run(["logrotate", "--debug", "--state", str(tmp_path / "state"), str(copy)]).stderr.decode()
    assert "/var/log/prefork-shop/*.log" in said
    assert "error" not in said


@pytest.mark.fault("rotation")
@pytest.mark.needs("logrotate")
def test_a_rotation_loses_no_line_and_the_server_writes_on(serve: Serve, project: Path) -> None:
    logs = project / "logs"
    logs.mkdir(mode=0o755)
    text = FILE.read_text()
    for theirs, ours in {
        "/var/log/prefork-shop/": f"{logs}/",
        "/srv/shop/venv/bin/prefork": f"{sys.executable} -m prefork",
        "--name shop": f"--name {project.name}",
    }.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    copy = project / "prefork-shop"
    copy.write_text(text)
    copy.chmod(0o644)

    access = logs / "access.log"
    with serve(name=project.name, access_log=str(access)) as server:
        asked = 1
        for turn in range(1, 4):
            while not access.stat().st_size:  # a worker may still write to the file that was rotated
                ask_once(server.address, "version")
                asked += 1
            tools.run(["logrotate", "--force", "--state", str(project / "state"), str(copy)])
            server.wait_for_log(f"log reopened: {access}", count=turn)
        ask_once(server.address, "version")
        assert server.stop() == 0

    assert sorted(path.name for path in logs.iterdir()) == [
        "access.log",
        "access.log.1",
        "access.log.2.gz",
        "access.log.3.gz",
    ]
    lines = tools.run(["zcat", "-f", *(str(path) for path in logs.iterdir())]).stdout.decode().splitlines()
    assert sum("connection served" in line for line in lines) == asked
