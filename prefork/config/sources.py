"""What was given, and by whom: the command line, the environment and the file, each as a layer of raw values.

A layer does not judge values; it only knows its own spelling of the names, and reports those that nobody knows.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefork.config.documents import Document
from prefork.config.options import DeclaredOption, declared_options
from prefork.errors import Problem, nearest_name

_PREFIX = "PREFORK_"
_OF_WORKERS = ("PREFORK_WORKER_SLOT", "PREFORK_GENERATION")  # set by us, so present when a worker runs our commands
# Kubernetes describes a service called "prefork" or "prefork-…" to every container beside it in variables like these.
_OF_KUBERNETES = re.compile(r"PREFORK_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")


@dataclass(frozen=True, slots=True)
class Given:
    """One value as it was written, and where."""

    raw: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Layer:
    """All that one source says."""

    given: Mapping[str, Given]
    problems: list[Problem]


def given_by_flags(target: str | None, flags: Mapping[str, object]) -> Layer:
    """Take what the command line says."""
    given, problems = {}, []
    if target is not None:
        given["target"] = Given(target, "TARGET")
    for name, raw in flags.items():
        option = declared_options().get(name)
        if option is None:
            problems.append(_unknown(f"--{name}", "option", name, declared_options()))
        else:
            given[name] = Given(raw, option.flag)
    return Layer(given, problems)


def given_by_environment(environ: Mapping[str, str]) -> Layer:
    """Take the PREFORK_ variables; an empty one is as good as none."""
    options = {option.variable: option for option in declared_options().values()}
    given, problems = {}, []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _OF_WORKERS or _OF_KUBERNETES.fullmatch(variable):
            continue
        if variable not in options:
            problems.append(_unknown(variable, "variable", variable, options))
        elif text:
            try:
                given[options[variable].name] = Given(_split(options[variable], text), variable)
            except ValueError as error:
                problems.append(Problem(variable, f"cannot be split into values: {str(error).lower()}"))
    return Layer(given, problems)


def given_by_document(document: Document | None) -> Layer:
    """Take the keys of the configuration file."""
    given, problems = {}, []
    for key, raw in document.values.items() if document else ():
        origin = document.origin(key) if document else ""
        if key == "config":
            problems.append(Problem(origin, "a configuration file cannot name another one", "remove config"))
        elif key in declared_options():
            given[key] = Given(raw, origin)
        else:
            problems.append(_unknown(origin, "key", key, declared_options()))
    return Layer(given, problems)


def _split(option: DeclaredOption, text: str) -> str | list[str]:
    """Split several values of one variable as a shell does: at spaces, unless there are quotes around them."""
    return shlex.split(text) if option.repeatable else text


def _unknown(origin: str, what: str, name: str, known: Mapping[str, object]) -> Problem:
    near = nearest_name(name, known)
    way_out = f"did you mean {near}?" if near else "`prefork run --help` lists all options"
    return Problem(origin, f"unknown {what} {name!r}", way_out)
