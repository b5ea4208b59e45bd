"""Pre-fork worker servers for socketserver request handlers.

`prefork.run(...)` serves from Python what `prefork run` serves from the command line. The names below are loaded when
they are first used, so that importing the package costs next to nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from prefork.launch import run as run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> object:
    if name == "run":
        from prefork.launch import run

        return run
    raise AttributeError(f"module 'prefork' has no attribute {name!r}")
