"""The architecture as a test: imports go down, dependencies have their places, dangerous calls have one door."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "prefork"

# part -> the parts it may import, beside itself and the ground floor. A part is a directory or a module of prefork/.
GROUND = {"errors", "address", "logs"}
FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "address": set(),
    "logs": set(),
    "config": set(),
    "serving": set(),
    "ipc": {"config"},
    "system": {"config"},
    "policy": set(),
    "worker": {"config", "serving", "ipc", "system"},
    "watcher": {"ipc", "system"},
    "admin": {"config", "serving", "ipc", "system"},
    "master": {"config", "serving", "ipc", "system", "worker", "watcher", "admin", "policy"},
    "cli": {"config", "serving", "ipc", "system", "worker", "master"},
    # What users import.
    "socketserver": {"serving"},
    "launch": set(),
    "testing": {"launch", "cli"},
    "__init__": {"launch"},
    "__main__": {"cli"},
}
# These stand alone: not even the ground floor.
ALONE = {"policy", "serving", "socketserver", "errors"}

# The dependencies, and who may import them. What is not named here uses the standard library alone.
DEPENDENCIES: dict[str, set[str]] = {
    "config": {"msgspec"},
    "ipc": {"msgspec"},
    "system": {"psutil", "setproctitle"},
    "master": {"msgspec"},
    "watcher": {"watchfiles"},
    "admin": {"msgspec"},
    "cli": {"click", "msgspec", "rich", "textual"},
}
# All that the supervisor needs to decide; nothing of it touches the world.
POLICY_IMPORTS = {"__future__", "collections", "dataclasses", "enum", "itertools", "math", "typing"}

# call -> where it may stand, as a path prefix below the root.
DOORS: dict[str, tuple[str, ...]] = {
    "os.fork": ("prefork/system/processes.py", "prefork/serving/mixins.py"),
    "signal.signal": ("prefork/system/signals.py",),
    # testing.py: what a test's server inherits from the test.
    "os.environ": ("prefork/config/load.py", "prefork/system/", "prefork/testing.py"),
    "os.environb": ("prefork/config/load.py", "prefork/system/"),
    "os.getenv": ("prefork/config/load.py", "prefork/system/"),
    "os.putenv": ("prefork/system/",),
    "print": ("prefork/cli/",),
    "time.sleep": (),
    "pickle": (),
}


def sources(*directories: str) -> list[Path]:
    return sorted(path for directory in directories for path in (ROOT / directory).rglob("*.py"))


def part_of(path: Path) -> str:
    """prefork/serving/pool.py -> serving, prefork/logs.py -> logs."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported name with its line, wherever in the module it stands; relative ones made absolute."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    for line, name in imports(path):
        root, _, rest = name.partition(".")
        if root != "prefork" or rest == "__version__":
            continue
        part = rest.partition(".")[0]
        known = part in FLOORS and part not in {"__init__", "__main__"}
        # `import prefork` and `from prefork import serve` reach what prefork/__init__.py offers.
        yield line, part if known else "__init__"


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Every use of a name that DOORS guards: `os.fork`, also `from os import fork` and under another name."""
    tree = ast.parse(path.read_bytes(), str(path))
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
    for line, name in imports(path):
        if name in DOORS or name.partition(".")[0] in DOORS:
            yield line, name if name in DOORS else name.partition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{aliases.get(node.value.id, node.value.id)}.{node.attr}"
            if name in DOORS:
                yield node.lineno, name
        elif isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno, "print"


def test_every_part_has_its_floor() -> None:
    parts = {part_of(path) for path in sources("prefork")}

    assert parts - set(FLOORS) == set()


@pytest.mark.parametrize("path", sources("prefork"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    part = part_of(path)
    allowed = FLOORS[part] | {part} | (set() if part in ALONE else GROUND)
    found = [
        f"{path.relative_to(ROOT)}:{line}: {part} may not import {other}"
        for line, other in imported_parts(path)
        if other not in allowed
    ]

    assert found == []


@pytest.mark.parametrize("path", sources("prefork"), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_stay_where_they_are_needed(path: Path) -> None:
    own = POLICY_IMPORTS if part_of(path) == "policy" else sys.stdlib_module_names
    # _typeshed exists for type checkers only.
    allowed = {"prefork", "_typeshed", *own, *DEPENDENCIES.get(part_of(path), ())}
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in imports(path)
        if name.partition(".")[0] not in allowed
    ]

    assert found == []


@pytest.mark.parametrize("path", sources("prefork"), ids=lambda path: str(path.relative_to(ROOT)))
def test_dangerous_calls_stand_behind_their_doors(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = [f"{name}:{line}: {use}" for line, use in uses(path) if not name.startswith(DOORS[use])]

    assert found == []


@pytest.mark.parametrize("path", sources("examples", "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_sleeps(path: Path) -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for line, use in uses(path) if use == "time.sleep"]

    assert found == []
