"""Where the sources of an application are, by its settings."""

from pathlib import Path

from prefork.config.settings import Settings
from prefork.master.watcher import places_of


def test_the_working_directory_and_what_is_there_of_the_pythonpath(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    pythonpath = (f"{tmp_path}/src/../lib/", f"{tmp_path}/missing", str(tmp_path))
    (tmp_path / "src").mkdir()

    assert places_of(Settings(chdir=str(tmp_path), pythonpath=pythonpath)).directories == (
        str(tmp_path),
        str(tmp_path / "lib"),
    )


def test_the_configuration_in_use(tmp_path: Path) -> None:
    assert places_of(Settings(chdir=str(tmp_path), config="/etc/shop.toml")).files == ("/etc/shop.toml",)


def test_without_a_configuration_those_that_may_come(tmp_path: Path) -> None:
    assert places_of(Settings(chdir=str(tmp_path))).files == (
        str(tmp_path / "prefork.toml"),
        str(tmp_path / "pyproject.toml"),
    )
