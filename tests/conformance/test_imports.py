"""What `import prefork.socketserver` costs and touches: the standard library and the serving stack, nothing else."""

import subprocess
import sys
from pathlib import Path

import prefork

ROOT = Path(prefork.__file__).resolve().parent.parent


def modules_after(statement: str) -> set[str]:
    """Return what a bare interpreter, without any installed package, has loaded after the statement."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=True, timeout=60)
    return set(output.stdout.decode().split())


def test_only_the_standard_library_and_the_serving_stack_are_loaded() -> None:
    loaded = modules_after("import prefork.socketserver")

    foreign = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names | {"__main__"}}
    assert {name for name in foreign if not f"{name}.".startswith(("prefork.socketserver.", "prefork.serving."))} == {
        "prefork"
    }


def test_hardly_more_of_the_standard_library_is_loaded_than_by_the_standard_module() -> None:
    more = modules_after("import prefork.socketserver") - modules_after("import socketserver")

    # `weakref` is half a millisecond; `typing`, `logging` or `traceback` would be several.
    assert {name for name in more if not name.startswith("prefork")} <= {"__future__", "weakref"}


def test_the_pool_and_the_worker_are_not_loaded() -> None:
    loaded = modules_after("import prefork.socketserver")

    assert "prefork.serving.base" in loaded
    assert "prefork.serving.pool" not in loaded
    assert {"prefork.serving.stages", "prefork.serving.tls", "prefork.serving.proxy", "ssl"}.isdisjoint(loaded)
