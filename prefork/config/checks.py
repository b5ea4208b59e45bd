"""What single values cannot tell: whether the settings make sense together, and on this machine."""

import os
from collections import Counter
from collections.abc import Iterator

from prefork.address import MOST_PATH_BYTES
from prefork.config.settings import Settings

Finding = tuple[str, str, str]
"""The option at fault, what is wrong with it, and the way out."""


def find_contradictions(settings: Settings) -> Iterator[Finding]:
    """List what makes it impossible to run with these settings."""
    yield from _check_places(settings)
    yield from _check_addresses(settings)
    if settings.reload and not _installed("watchfiles"):
        yield "reload", "needs the package watchfiles", "pip install 'prefork[reload]'"


def find_doubts(settings: Settings) -> Iterator[str]:
    """List what will run, but probably not as intended."""
    for directory in settings.pythonpath:
        if not os.path.exists(directory):
            yield f"pythonpath: {directory} does not exist; nothing will be imported from there"


def _check_places(settings: Settings) -> Iterator[Finding]:
    if not os.path.isdir(settings.chdir):
        yield "chdir", f"{settings.chdir} is not a directory", "create it, or name another"
    if settings.control not in ("auto", "off") and len(os.fsencode(settings.control)) > MOST_PATH_BYTES:
        yield (
            "control",
            f"{settings.control} is longer than the {MOST_PATH_BYTES} bytes of a socket",
            "use a shorter path",
        )


def _check_addresses(settings: Settings) -> Iterator[Finding]:
    if not settings.bind:
        yield "bind", "must name at least one address", ""
    for address in settings.bind:
        if len(os.fsencode(address.path)) > MOST_PATH_BYTES:
            yield "bind", f"{address.path} is longer than the {MOST_PATH_BYTES} bytes of a socket", "shorten it"
    for place, times in Counter(address.place for address in settings.bind).items():
        if times > 1:
            yield "bind", f"{place} is given {times} times", "keep one"


def _installed(package: str) -> bool:
    import importlib.util  # slow to import, and rarely needed

    return importlib.util.find_spec(package) is not None
