"""From flags, environment and file to checked settings, or to a list of everything that is wrong with them.

The nearer source wins: a flag over the environment, the environment over the file, the file over the default. Each
value is converted by itself, so that one wrong value does not hide the next; and each is remembered with its origin.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from prefork.address import BindAddress
from prefork.config.checks import find_contradictions, find_doubts
from prefork.config.documents import Document, find_document, read_document
from prefork.config.options import DeclaredOption, Rejected, declared_options
from prefork.config.settings import Settings
from prefork.config.sources import Given, Layer, given_by_document, given_by_environment, given_by_flags
from prefork.errors import ConfigurationError, Problem, UsageError

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, where each one comes from, and what it takes to read them again."""

    settings: Settings
    origins: Mapping[str, str]
    """By the name of the option: `--workers`, `PREFORK_WORKERS`, `prefork.toml:12` or `default`."""
    warnings: Sequence[str]
    _sources: "_Sources"

    def reload(self) -> "Loaded":
        """Read the files again, with the same flags, environment and starting directory; raise ConfigurationError."""
        return _load(self._sources)


def load_settings(
    target: str | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    *,
    target_needed: bool = True,
) -> Loaded:
    """Resolve the settings of a server; raise ConfigurationError with all that is wrong with them.

    `flags` holds what the command line gave, by the names of the options: texts, or ready values.
    """
    environ = dict(os.environ if environ is None else environ)
    directory = _current_directory() if cwd is None else Path(cwd)
    return _load(_Sources(target, dict(flags), environ, directory, target_needed))


def _current_directory() -> Path:
    try:
        return Path(os.getcwd())
    except OSError as error:
        raise UsageError("the current directory is gone; change to another one") from error


@dataclass(frozen=True, slots=True)
class _Sources:
    target: str | None
    flags: Mapping[str, object]
    environ: Mapping[str, str]
    cwd: Path
    target_needed: bool


def _load(sources: _Sources) -> Loaded:
    layers = [
        given_by_flags(sources.target, sources.flags),
        given_by_environment(sources.environ),
    ]
    problems = [problem for layer in layers for problem in layer.problems]
    document, target_needed = None, sources.target_needed
    try:
        document = _find_document(layers, sources.cwd)
    except ConfigurationError as error:
        problems += error.problems
        target_needed = False  # the file may name it
    layers.append(given_by_document(document))
    problems += layers[-1].problems
    values, origins = _resolve(layers, problems)
    settings = _complete(Settings(**values), origins, document, sources.cwd)
    problems += _check(settings, origins, problems, target_needed)
    if problems:
        raise ConfigurationError(problems)
    warnings = [*(document.warnings if document else ()), *find_doubts(settings)]
    return Loaded(settings, origins, warnings, sources)


def _find_document(layers: Sequence[Layer], cwd: Path) -> Document | None:
    """Find the file. It may itself say `chdir`, but not where it is to be found."""
    config, chdir = (_first_text(layers, name) for name in ("config", "chdir"))
    if config:
        return read_document(cwd / config, config)
    return find_document(cwd / chdir)


def _first_text(layers: Sequence[Layer], name: str) -> str:
    return next((str(layer.given[name].raw) for layer in layers if name in layer.given), "")


def _resolve(layers: Sequence[Layer], problems: list[Problem]) -> tuple[dict[str, Any], dict[str, str]]:
    """Convert each value that was given. A wrong one is reported, and left out so that the others can be checked."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(declared_options(), DEFAULT)
    for name, option in declared_options().items():
        givens = [layer.given[name] for layer in layers if name in layer.given]
        used = givens if option.about.adds_up else givens[:1]
        if used:
            origins[name] = ", ".join(given.origin for given in used)
        read = [_convert(option, given, problems) for given in used]
        if used and None not in read:
            values[name] = _add_up(read) if option.about.adds_up else read[0]
    return values, origins


def _convert(option: DeclaredOption, given: Given, problems: list[Problem]) -> object:
    try:
        return option.read(given.raw)
    except Rejected as error:
        for message in error.messages:
            what, _, way_out = message.partition("; ")
            problems.append(_problem(option, given.origin, what, way_out))
        return None


def _add_up(parts: list[Any]) -> object:
    """Merge tables, or lists of NAME=VALUE, by name; the first part is the nearest source and wins."""
    if isinstance(parts[0], dict):
        return {name: value for part in reversed(parts) for name, value in part.items()}
    by_name = {text.partition("=")[0]: text for part in reversed(parts) for text in part}
    return tuple(by_name.values())


def _complete(settings: Settings, origins: Mapping[str, str], document: Document | None, cwd: Path) -> Settings:
    """Fill in what follows from other settings, and make paths independent of where the process goes later."""
    in_file = document is not None and origins["chdir"].startswith(f"{document.label}:")
    chdir = os.path.abspath((document.path.parent if document and in_file else cwd) / settings.chdir)
    changes: dict[str, Any] = {
        "chdir": chdir,
        "pythonpath": tuple(os.path.join(chdir, directory) for directory in settings.pythonpath),
        "bind": tuple(_placed(address, chdir) for address in settings.bind),
        "name": settings.name or settings.target.partition(":")[0].rpartition(".")[2],
    }
    if origins["workers"] == DEFAULT:
        changes["workers"] = _within_bounds(settings)
    if document is not None:
        changes["config"] = os.path.abspath(document.path)
    if settings.log_file != "-":
        changes["log_file"] = os.path.join(chdir, settings.log_file)
    if settings.access_log not in ("off", "-"):
        changes["access_log"] = os.path.join(chdir, settings.access_log)
    for name in ("tls_cert", "tls_key"):
        changes[name] = tuple(os.path.join(chdir, file) for file in getattr(settings, name))
    if settings.tls_ca:
        changes["tls_ca"] = os.path.join(chdir, settings.tls_ca)
    if settings.pidfile:
        changes["pidfile"] = os.path.join(chdir, settings.pidfile)
    if settings.control not in ("auto", "off"):
        changes["control"] = os.path.join(chdir, settings.control)
    return msgspec.structs.replace(settings, **changes)


def _within_bounds(settings: Settings) -> int:
    """The number of workers that nobody chose gives way to the bounds that somebody did choose."""
    workers = max(settings.workers, settings.min_workers)
    return min(workers, settings.max_workers) if settings.max_workers else workers


def _placed(address: BindAddress, chdir: str) -> BindAddress:
    if not address.path or address.path.startswith("@"):
        return address
    return replace(address, path=os.path.join(chdir, address.path))


def _check(
    settings: Settings, origins: Mapping[str, str], known: Sequence[Problem], target_needed: bool
) -> list[Problem]:
    """Check the settings together, except those of which a value could not be read."""
    broken = {problem.origin for problem in known}
    problems = [
        _problem(declared_options()[name], origins[name], what, way_out)
        for name, what, way_out in find_contradictions(settings)
        if origins[name] not in broken
    ]
    if target_needed and not settings.target and origins["target"] == DEFAULT:
        way_out = 'write for example `prefork run app:Handler`, or target = "app:Handler" in prefork.toml'
        problems.append(Problem("TARGET", "is missing", way_out))
    return problems


def _problem(option: DeclaredOption, origin: str, what: str, way_out: str) -> Problem:
    """A flag or a variable says which option is meant; a line of a file may hold several."""
    if origin not in (option.flag, option.variable, "TARGET"):
        what = f"{option.name} {what}" if what.startswith("must ") else f"{option.name}: {what}"
    return Problem(origin, what, way_out)
