"""What a process uses of the machine, as far as /proc lets us see it."""

from __future__ import annotations


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, or None where it cannot be read (gone, or /proc hidden)."""
    import psutil  # imported when first asked: a master that nobody asks stays small

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None
