"""Which files matter, and which of them changed: our part of what the library watchfiles does.

The kernel tells of names in directories. A directory that appears may have been filled before it was watched, so it is
looked through; one that is watched and disappears takes its watch along, so that ends the watching.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from watchfiles import Change, DefaultFilter
from watchfiles import watch as watch_files

from prefork.watcher.main import Places

_DEBOUNCE = 1600  # milliseconds: a burst ends at the latest then,
_QUIET = 100  # or when for so long nothing else has changed
_TURN = 250
_UNWATCHED = (*DefaultFilter.ignore_dirs, ".nox", ".ruff_cache", "venv", "site-packages")
_names = DefaultFilter(ignore_dirs=_UNWATCHED)

Changes = set[tuple[Change, str]]


def watch(places: Places, since: float) -> Iterator[set[str]]:
    """Yield, some times each second, the names of the sources that changed: first those that did since `since`.

    When that first set is yielded, everything is watched. Raise OSError or RuntimeError when it no longer can be.
    """
    for directory in places.directories:
        os.stat(directory)  # the library is content if one of them is there
    for turn, changes in enumerate(_watch_directories(places)):
        gone = {path for change, path in changes if change is Change.deleted} & set(places.directories)
        changed = gone | find_sources(changes, places)
        if turn == 0:
            changed |= find_changed(places, since)
        yield {name_of(path, places) for path in changed}
        if gone:
            raise FileNotFoundError(errno.ENOENT, "it was moved or removed", min(gone))


def _watch_directories(places: Places) -> Iterator[Changes]:
    """Yield what changed below the directories or beside the files, whatever it is, in turns of a quarter second."""
    deep = {one for one in places.directories if not _is_below_any(one, places.directories)}
    flat = {os.path.dirname(file) for file in places.files if not _is_below_any(file, deep)}
    watches = [
        watch_files(
            *sorted(directories),
            recursive=recursive,
            watch_filter=None,
            debounce=_DEBOUNCE,
            step=_QUIET,
            rust_timeout=_TURN,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        for directories, recursive in ((deep, True), (flat, False))
        if directories
    ]
    for found in zip(*watches, strict=True):
        yield set().union(*found)


def find_sources(changes: Changes, places: Places) -> set[str]:
    """Return the sources among what changed, and those in the directories that appeared."""
    found = {path for _, path in changes if is_source(path, places)}
    for change, path in changes:
        if change is Change.added and os.path.isdir(path):
            found.update(_sources_below(path, places))
    return found


def find_changed(places: Places, since: float) -> set[str]:
    """Return the sources that were changed, or put in place, since a time of the wall clock."""
    found = {path for directory in places.directories for path in _sources_below(directory, places)}
    return {path for path in found | set(places.files) if _changed_at(path) >= since}


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime  # a file that is moved keeps the time of its content, but not this one
    except OSError:
        return 0.0  # it is gone again


def _sources_below(directory: str, places: Places) -> Iterator[str]:
    for parent, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name not in _UNWATCHED]
        yield from (path for name in files if is_source(path := os.path.join(parent, name), places))


def is_source(path: str, places: Places) -> bool:
    """Tell whether a change of the file can change what the application does."""
    if path in places.files:
        return True
    if not path.endswith(".py"):
        return False
    # Below the directory: where the directory itself is, and what it is called, is none of our business.
    return any(
        _names(Change.modified, os.path.relpath(path, directory))
        for directory in places.directories
        if _is_below(path, directory)
    )


def name_of(path: str, places: Places) -> str:
    """Return what to call a source in a log line: the shortest of its names."""
    names = [os.path.relpath(path, directory) for directory in places.directories if _is_below(path, directory)]
    return min([path, *names], key=len).encode(errors="replace").decode()


def _is_below_any(path: str, directories: tuple[str, ...] | set[str]) -> bool:
    return any(_is_below(path, directory) for directory in directories)


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(os.path.join(directory, ""))
