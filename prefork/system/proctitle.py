"""Process titles: what `ps` shows."""

from __future__ import annotations

import setproctitle


def set_title(role: str, name: str) -> None:
    """Show this process as `prefork: ROLE [NAME]`."""
    setproctitle.setproctitle(f"prefork: {role} [{name}]")
