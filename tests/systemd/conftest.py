"""One booted container for all tests here, and in it a service that is set up anew for each of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.application import write_application
from tests.support.container import ROOT, Container, make_image

PROGRAM = "#!/usr/bin/python3\nimport sys\nfrom prefork.cli.main import main\nsys.exit(main())\n"
SETTINGS = 'target = "app:Handler"\nworkers = 2\ncanary_time = 0.2\nbind = ["tcp://127.0.0.1:9999"]\n'
ADDRESS = ("127.0.0.1", 9999)
UNITS = sorted(path.name for path in (ROOT / "deploy/systemd").iterdir())


@pytest.fixture(scope="session")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A Debian with the units of deploy/systemd."""
    tools.require_root()
    tools.require("systemd-nspawn", "debootstrap", "nsenter")
    container = Container(make_image(), tmp_path_factory.mktemp("container") / "console")
    try:
        container.write("/srv/shop/venv/bin/prefork", PROGRAM, 0o755)
        for unit in UNITS:
            container.write(f"/etc/systemd/system/{unit}", (ROOT / "deploy/systemd" / unit).read_text())
        yield container
    finally:
        container.close()


class Service:
    """The service `shop`, by one of the units."""

    def __init__(self, container: Container, unit: str) -> None:
        self.container = container
        self.unit = f"{unit}@shop.service"
        self.directory = container.path("/srv/shop")
        self._drop_in = f"/etc/systemd/system/{self.unit}.d/test.conf"

    def settings(self, text: str) -> None:
        """Write its prefork.toml."""
        self.container.write("/srv/shop/prefork.toml", text)

    def change_unit(self, text: str) -> None:
        """Add lines to its unit, as an operator does with `systemctl edit`."""
        self.container.write(self._drop_in, f"[Service]\n{text}")
        self.container.run("systemctl", "daemon-reload")

    def systemctl(self, verb: str, *words: str) -> str:
        """Do something to it that must succeed."""
        return self.container.run("systemctl", verb, *words, self.unit)

    def show(self, name: str) -> str:
        """Return one of its properties, as systemd has it now."""
        return self.systemctl("show", "--value", f"--property={name}").strip()

    def clean(self) -> None:
        """Set everything up anew."""
        self.container.try_("systemctl", "kill", "--signal=CONT", self.unit)
        self.container.try_("systemctl", "stop", self.unit, "prefork@shop.socket")
        self.container.try_("systemctl", "reset-failed")
        self.container.path(self._drop_in).unlink(missing_ok=True)
        self.container.run("systemctl", "daemon-reload")
        self.settings(SETTINGS)
        write_application(self.directory)


@pytest.fixture
def service_of(container: Container) -> Iterator[Callable[[str], Service]]:
    """Return the service by a unit: `prefork` or `prefork-252`."""
    made: list[Service] = []

    def of(unit: str) -> Service:
        made.append(Service(container, unit))
        made[-1].clean()
        return made[-1]

    yield of
    for service in made:
        service.clean()


@pytest.fixture
def service(service_of: Callable[[str], Service]) -> Service:
    """The service by the unit for a current systemd."""
    return service_of("prefork")


@pytest.fixture
def gate(service: Service) -> Path:
    """A fifo that the application reads before a worker is ready."""
    path = service.directory / "gate"
    service.container.run("mkfifo", "--mode=644", "/srv/shop/gate")
    return path
