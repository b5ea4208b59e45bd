"""Started as root with a user to become: who the processes really are, in a Debian where that user can read Python."""

import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.application import write_application
from tests.support.authorities import Authority
from tests.support.clients import LineClient, ask_once, eventually
from tests.support.container import Container
from tests.systemd.conftest import ADDRESS, SETTINGS, Service

PREFORK = "/srv/shop/venv/bin/prefork"
NEVER_ROOT = "\nassert os.getuid() and os.geteuid(), 'imported as root'\n"


@pytest.fixture(scope="module")
def groups(container: Container) -> set[int]:
    """Put nobody into a second group; return the groups that it is in then."""
    container.run("usermod", "--append", "--groups", "audio", "nobody")
    return {int(number) for number in container.run("id", "--groups", "nobody").split()}


@contextmanager
def running(service: Service, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Serve in the container as root, with no unit."""
    command = ["env", "--chdir=/srv/shop", PREFORK, "run", *words]
    with service.container.network(), service.container.start(*command) as server:
        assert server.stdout is not None
        heard = []
        for line in server.stdout:
            heard.append(line)
            if " ready: " in line:
                break
        assert server.poll() is None, "".join(heard)
        try:
            yield server
        finally:
            service.container.try_(PREFORK, "stop", "--quick")
            server.stdout.read()


def status(service: Service) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(service.container.run(PREFORK, "status", "--json"))
    return described


def children(service: Service, master: int) -> list[int]:
    """Return the pids of the mold and the workers."""
    return [int(pid) for pid in service.container.path(f"/proc/{master}/task/{master}/children").read_text().split()]


def rights(service: Service, pid: int) -> dict[str, list[str]]:
    """Return what the kernel says about a process."""
    lines = service.container.path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}


@pytest.mark.fault("privileges")
def test_mold_and_workers_have_exactly_the_rights_of_the_user(service: Service, groups: set[int]) -> None:
    write_application(service.directory, extra=NEVER_ROOT)
    with running(service, "--user", "nobody", "--umask", "027"):
        master = int(status(service)["pid"])
        everybody = children(service, master)

        assert len(everybody) == 3
        for pid in everybody:
            found = rights(service, pid)
            assert (found["Uid"], found["Gid"]) == (["65534"] * 4, ["65534"] * 4)
            assert {int(group) for group in found["Groups"]} == groups
            assert [found[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [["0" * 16]] * 4
        assert rights(service, master)["Uid"] == ["0"] * 4
        with LineClient(ADDRESS) as client:
            assert client.ask("eval oct(os.umask(0))") == "0o27"
            assert client.ask("eval os.environ['USER'], os.environ['LOGNAME']") == "('nobody', 'nobody')"
            client.send("eval os.setuid(0)")
            client.wait_for_end()  # PermissionError


def test_the_master_stays_root_and_a_reload_may_bind_low_ports_and_change_the_user(service: Service) -> None:
    with running(service, "--user", "nobody"):
        assert ask_once(ADDRESS, "eval os.getuid()") == "65534"
        low = SETTINGS.replace('bind = ["', 'bind = ["tcp://127.0.0.1:81", "')
        service.settings(f'{low}group = "daemon"\n')
        service.container.run(PREFORK, "reload")

        assert ask_once(("127.0.0.1", 81), "eval os.getuid(), os.getgid()") == "(65534, 1)"


def test_workers_of_another_user_tell_what_share_of_the_memory_they_have(service: Service) -> None:
    with running(service, "--user", "nobody", "--admin", "unix:/run/shop-admin"):
        eventually(lambda: all(worker["pss"] for worker in status(service)["workers"]))


def test_they_all_die_with_the_master(service: Service) -> None:
    with running(service, "--user", "nobody"):
        master = int(status(service)["pid"])
        everybody = children(service, master)
        service.container.run("python3", "-c", f"import os; os.kill({master}, 9)")

        eventually(lambda: not any(service.container.path(f"/proc/{pid}").exists() for pid in everybody))


def test_a_hung_worker_of_another_user_is_killed_and_replaced(service: Service) -> None:
    with running(service, "--user", "nobody", "--heartbeat-timeout", "2"):
        pid = int(ask_once(ADDRESS, "pid"))
        service.container.run("python3", "-c", f"import os; os.kill({pid}, 19)")

        eventually(lambda: len({worker["pid"] for worker in status(service)["workers"]} - {pid, None}) == 2)


def test_the_socket_file_belongs_to_whom_the_bind_says(service: Service) -> None:
    with running(service, "--user", "nobody", "-b", "unix:/run/shop.sock?mode=0660&owner=daemon&group=audio"):
        found = service.container.path("/run/shop.sock").stat()

        assert (found.st_uid, found.st_mode & 0o777) == (1, 0o660)
    assert not service.container.path("/run/shop.sock").exists()


def test_the_check_does_not_import_the_application_as_root(service: Service) -> None:
    write_application(service.directory, extra=NEVER_ROOT)
    in_place = ("env", "--chdir=/srv/shop", PREFORK, "check")

    service.container.run(*in_place, "--user", "nobody")
    assert "imported as root" in service.container.try_(*in_place).stderr


def test_a_key_that_only_root_may_read_is_good_for_the_check_and_for_the_server(service: Service) -> None:
    file = Authority(service.directory).issue("localhost")
    options = ("--user", "nobody", "--tls-cert", Path(file).name)

    service.container.run("env", "--chdir=/srv/shop", PREFORK, "check", *options)
    with running(service, *options):
        assert status(service)["certificates"][0]["names"] == ["localhost"]


def test_python_that_the_user_cannot_read_is_an_error_that_says_so(service: Service) -> None:
    service.container.run("cp", "-r", "/usr/lib/python3/dist-packages/prefork", "/root/prefork")
    command = ["env", "--chdir=/srv/shop", "PYTHONPATH=/root", "python3", "-m", "prefork", "run", "--user", "nobody"]
    done = service.container.try_(*command)

    assert done.returncode == 3
    assert "cannot read /root/prefork/system/privileges.py (install Python and prefork where" in done.stderr


def test_workers_follow_a_rotated_log_in_a_directory_that_only_root_may_enter(service: Service) -> None:
    service.container.run("mkdir", "--mode=700", "--parents", "/var/log/shop")
    write_application(service.directory, extra="\nimport logging\nlog = logging.getLogger('app')\n")
    command = ["env", "--chdir=/srv/shop", PREFORK, "run", "--user", "nobody", "--log-file", "/var/log/shop/log"]
    log, rotated = service.container.path("/var/log/shop/log"), service.container.path("/var/log/shop/log.1")
    with service.container.network(), service.container.start(*command) as server:
        eventually(lambda: log.exists() and " ready: " in log.read_text())
        log.rename(rotated)
        service.container.run(PREFORK, "reopen")
        for number in itertools.count():  # a worker may still write to the file that was renamed
            assert ask_once(ADDRESS, f"eval log.warning('after {number},') or 1") == "1"
            if f" after {number}," in log.read_text():
                break
        service.container.run(PREFORK, "stop", "--quick")
        assert server.wait(30) == 0

    assert f" after {number}," not in rotated.read_text()
