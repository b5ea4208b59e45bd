"""Bytecode that may be mistaken for that of the next version of its source is not cached.

Python takes cached bytecode for current if the source has the size and the modification time, in whole seconds, that
were noted in it. Of two versions of the same size saved within a second, the second one would never be loaded, and a
reload would serve old code. So a source that was changed a moment ago leaves no cache (`importlib`, SourceLoader).
"""

from __future__ import annotations

import importlib.util
import os
import time
from importlib.machinery import SourceFileLoader

_MOMENT = 2.0  # seconds: the resolution of the noted time, and some more for clocks of network file systems

_write = SourceFileLoader.set_data


def cache_only_settled_sources() -> None:
    """Have this process and those forked from it cache no bytecode of a source that has just changed."""
    SourceFileLoader.set_data = _write_if_settled  # type: ignore[method-assign, assignment]  # a hook of the loader


def _write_if_settled(self: SourceFileLoader, path: str, data: bytes, **options: int) -> None:
    try:
        changed = os.stat(importlib.util.source_from_cache(path)).st_mtime
    except (OSError, ValueError):
        return  # no source to be taken for: nothing is lost without the cache
    if time.time() - changed > _MOMENT:
        _write(self, path, data, **options)
