"""Errors that end a command: what could not be done, to what, why, and what to do about it.

Each carries the exit code of the contract, so that the command line needs no table of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class PreforkError(Exception):
    """Anything that this program reports itself, in one line that an operator understands."""

    exit_code = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
        """More lines for whoever has to find the cause, usually a traceback; "" if there is nothing to add."""


class UsageError(PreforkError):
    """The command, its settings or the platform do not allow what was asked."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration, and where it was said."""

    origin: str
    """As an operator would look for it: `--workers`, `PREFORK_WORKERS`, `prefork.toml:12`."""
    what: str
    way_out: str = ""

    def __str__(self) -> str:
        text = f"{self.origin}: {self.what}"
        return f"{text}; {self.way_out}" if self.way_out else text


class ConfigurationError(UsageError):
    """Everything that is wrong in a configuration, reported together: one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class ApplicationError(PreforkError):
    """The target cannot be imported or built; `detail` is the traceback, "" if there is none."""

    exit_code = 3


class ListenerError(PreforkError):
    """A listener could not be had: `cannot bind tcp://0.0.0.0:80: permission denied (…)`."""

    exit_code = 4


class NotDone(PreforkError):
    """A running server refused a control command, or tried and failed."""

    exit_code = 1


class NoSuchServer(PreforkError):
    """No running server answers to the pid, name or path that was given."""

    exit_code = 5


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant."""
    import difflib  # only needed when something is already wrong

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)
