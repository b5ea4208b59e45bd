"""Which files a watcher takes for sources, and which of them it takes for changed."""

import os
from pathlib import Path

import pytest
from watchfiles import Change

from prefork.watcher.files import find_changed, find_sources, is_source, name_of, watch
from prefork.watcher.main import Places

# The place itself may be called anything, also what is skipped below it.
PLACES = Places(("/srv/.venv/shop", "/srv/.venv/shop/venv/site-packages", "/opt/lib"), ("/etc/shop/prefork.toml",))


@pytest.mark.parametrize(
    "path",
    [
        "/srv/.venv/shop/app.py",
        "/srv/.venv/shop/package/module.py",
        "/srv/.venv/shop/venv/site-packages/named.py",
        "/opt/lib/greeting.py",
        "/etc/shop/prefork.toml",
    ],
)
def test_a_source(path: str) -> None:
    assert is_source(path, PLACES)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/.venv/shop/app.pyc",
        "/srv/.venv/shop/app.py~",
        "/srv/.venv/shop/.#app.py",
        "/srv/.venv/shop/.app.py.swp",
        "/srv/.venv/shop/__pycache__/app.py",
        "/srv/.venv/shop/.git/hook.py",
        "/srv/.venv/shop/.venv/lib/python3.12/site-packages/library.py",
        "/srv/.venv/shop/prefork.toml",
        "/srv/.venv/shop/data.json",
        "/srv/.venv/shopping/app.py",
        "/opt/lib",
        "/etc/shop/other.toml",
    ],
)
def test_no_source(path: str) -> None:
    assert not is_source(path, PLACES)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/.venv/shop/package/module.py", "package/module.py"),
        ("/srv/.venv/shop/venv/site-packages/named.py", "named.py"),
        ("/etc/shop/prefork.toml", "/etc/shop/prefork.toml"),
        ("/opt/lib", "/opt/lib"),
        ("/opt/lib/\udcff.py", "?.py"),
    ],
)
def test_the_shortest_name_is_told(path: str, name: str) -> None:
    assert name_of(path, PLACES) == name


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places((str(tmp_path),), (str(tmp_path / "prefork.toml"),))


def written(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return str(path)


def test_a_directory_that_appears_is_looked_through(tmp_path: Path, places: Places) -> None:
    module = written(tmp_path / "package" / "inner" / "module.py")
    written(tmp_path / "package" / "__pycache__" / "module.py")
    written(tmp_path / "elsewhere" / "module.py")

    assert find_sources({(Change.added, str(tmp_path / "package"))}, places) == {module}


def test_a_directory_that_goes_is_not_looked_for(tmp_path: Path, places: Places) -> None:
    assert find_sources({(Change.deleted, str(tmp_path / "package"))}, places) == set()


def test_what_changed_while_nobody_watched_is_found(tmp_path: Path, places: Places) -> None:
    module, settings = written(tmp_path / "package" / "module.py"), written(tmp_path / "prefork.toml")
    written(tmp_path / "data.json")
    changed = os.stat(module).st_ctime

    assert find_changed(places, changed) == {module, settings}
    assert find_changed(places, changed + 60) == set()


def test_a_file_put_in_place_counts_however_old_its_content_is(tmp_path: Path, places: Places) -> None:
    path = written(tmp_path / "app.py")
    os.utime(path, (0, 0))

    assert find_changed(places, os.stat(path).st_ctime) == {path}


def test_the_first_turn_tells_what_was_missed_and_the_next_what_changes(tmp_path: Path) -> None:
    places = Places((str(tmp_path),), ())
    missed = written(tmp_path / "missed.py")
    turns = watch(places, os.stat(missed).st_ctime)

    assert next(turns) == {"missed.py"}
    written(tmp_path / "app.py")
    assert next(names for names in turns if names) == {"app.py"}


def test_all_directories_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        next(watch(Places((str(tmp_path), str(tmp_path / "missing")), ()), 0.0))


def test_a_directory_that_is_removed_is_a_change_and_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "home"
    directory.mkdir()
    turns = watch(Places((str(directory),), ()), 0.0)
    next(turns)
    directory.rmdir()

    assert next(names for names in turns if names) == {str(directory)}
    with pytest.raises(FileNotFoundError, match="moved or removed"):
        next(turns)
