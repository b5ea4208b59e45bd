"""The unit files, as systemd reads them."""

import pytest

from tests.support.container import Container
from tests.support.tools import run
from tests.systemd.conftest import UNITS


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_reads_the_unit_without_a_complaint(container: Container, unit: str) -> None:
    done = container.try_("systemd-analyze", "verify", unit.replace("@.", "@shop."))

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_systemd_of_this_machine_reads_the_older_unit(container: Container) -> None:
    done = run(["systemd-analyze", "verify", f"--root={container.path('/')}", "prefork-252@shop.service"])

    complaints = (done.stdout + done.stderr).decode().splitlines()
    assert [line for line in complaints if "prefork" in line] == []  # of the newer Debian's own units it has many


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_the_unit_is_hardened(container: Container, unit: str) -> None:
    container.run("systemd-analyze", "security", "--offline=true", "--threshold=15", f"/etc/systemd/system/{unit}")
