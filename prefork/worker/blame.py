"""Errors of the application, told in a line, with a traceback that starts in the application's own code."""

from __future__ import annotations

import os
import traceback

from prefork.errors import ApplicationError

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORT_MACHINERY = ("<frozen importlib", os.path.join("importlib", "__init__.py"))


def application_error(what: str, error: BaseException) -> ApplicationError:
    """Make of anything that the application raised an error that says what could not be done and why."""
    return ApplicationError(f"{what}: {describe(error)}", detail=application_traceback(error))


def describe(error: BaseException) -> str:
    """Say in a line what went wrong, and where if the text alone does not tell."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__} in {_shorten(error.filename)}:{error.lineno}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"it ended the program (sys.exit({error.code!r})); what only a script does belongs under __main__"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the module {error.name!r}, which is not installed (or not on the path, see pythonpath)"
    text = traceback.format_exception_only(error)[-1].strip()
    place = _innermost_place(error)
    return f"{text} ({place})" if place else text


def application_traceback(error: BaseException) -> str:
    """Return the traceback without our frames and those of the import system."""
    told = traceback.TracebackException.from_exception(error)
    _strip(told, set())
    return "".join(told.format()).rstrip()


def _strip(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack = traceback.StackSummary.from_list([frame for frame in told.stack if not _is_ours(frame.filename)])
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _strip(other, seen)


def _innermost_place(error: BaseException) -> str:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_ours(frame.filename):
            return f"{_shorten(frame.filename)}:{frame.lineno}"
    return ""


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, _IMPORT_MACHINERY[0])) or filename.endswith(_IMPORT_MACHINERY[1])


def _shorten(filename: str) -> str:
    try:
        relative = os.path.relpath(filename)
    except (OSError, ValueError):
        return filename  # the working directory is gone
    return filename if relative.startswith(os.pardir) else relative
