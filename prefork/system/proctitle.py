"""Process titles: what `ps` shows."""

from __future__ import annotations

import setproctitle


def set_title(role: str, name: str) -> None:
    """Show this process as `prefork: ROLE [NAME]`, and as `prefork-` and the first word of the role where it is short.

    The title would be cut to make the short name, too, which must be without spaces: CPython 3.12 and later count the
    threads before a fork by splitting /proc/self/stat, whose second field it is, and would warn of threads that are
    not there. It has 15 bytes (PR_SET_NAME in prctl(2)).
    """
    setproctitle.setproctitle(f"prefork: {role} [{name}]")
    setproctitle.setthreadtitle(f"prefork-{role.split()[0]}")
