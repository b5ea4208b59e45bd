"""Becoming another user for good: groups, then group, then user, each verified before anything of the user's runs.

The order matters: without root one can change neither the groups nor the group (setgroups(2), setresgid(2)). What is
not as it should be afterwards ends the process: to serve with rights that nobody meant to give is worse than not to.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

from prefork.errors import ApplicationError, UsageError

_CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process becomes; name and home are empty for a number without an entry among the users."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str = ""
    home: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'user'} (uid {self.uid}, gid {self.gid})"


def find_identity(user: str | None, group: str | None) -> Identity | None:
    """Look up whom the settings `user` and `group` mean; None if neither is set. Raise UsageError."""
    if user is None and group is None:
        return None
    try:
        gid = None if group is None else _gid_of(group)
        if user is None:
            assert gid is not None
            return Identity(os.geteuid(), gid, (gid,))
        return _identity_of(user, gid)
    except KeyError as error:
        raise UsageError(f"no such user or group: {error.args[0]} (see user and group)") from error


def _identity_of(user: str, gid: int | None) -> Identity:
    entry = _entry_of(user)
    if entry is not None:
        gid = entry.pw_gid if gid is None else gid
        groups = tuple(sorted(os.getgrouplist(entry.pw_name, gid)))
        return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)
    if gid is None:
        raise UsageError(f"user {user} has no entry among the users, and so no group (set group, too)")
    return Identity(int(user), gid, (gid,))


def _entry_of(user: str) -> pwd.struct_passwd | None:
    if not user.isdigit():
        return pwd.getpwnam(user)
    try:
        return pwd.getpwuid(int(user))
    except KeyError:
        return None


def _gid_of(group: str) -> int:
    return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def check_possible(user: str | None, group: str | None) -> None:
    """Raise UsageError if this process cannot become whom the settings name."""
    identity = find_identity(user, group)
    if identity is not None and os.geteuid() != 0 and not _is(identity):
        raise UsageError(
            f"cannot become {identity}: only root can, and this process has uid {os.geteuid()} (start it as root, or "
            "leave user and group out)"
        )


def become(identity: Identity | None) -> None:
    """Become somebody for good, with the variables that name a user. Raise ApplicationError if it did not come to that.

    The kernel forgets prctl(PR_SET_PDEATHSIG) when the user changes, so `die_with_parent` comes after this.
    """
    if identity is None:
        return
    before = os.geteuid()
    try:
        if before == 0:
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
            os.setresuid(identity.uid, identity.uid, identity.uid)
        if identity.uid != 0:
            _give_up_inheritable_capabilities()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ApplicationError(f"cannot become {identity}: {reason} (CAP_SETUID and CAP_SETGID are needed)") from error
    if wrong := _what_is_wrong(identity):
        raise ApplicationError(f"cannot become {identity}: afterwards {wrong}")
    if identity.name:
        os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)
    elif identity.uid != before:
        for variable in ("HOME", "USER", "LOGNAME"):
            os.environ.pop(variable, None)  # somebody else's


def check_readable(files: Iterable[str] = (os.__file__, __file__)) -> None:
    """Raise ApplicationError if whom we became cannot load the rest of Python, or of us."""
    for file in files:
        if not os.access(file, os.R_OK):
            problem = f"uid {os.getuid()} cannot read {file}"
            raise ApplicationError(f"{problem} (install Python and prefork where the user of the workers may read)")


def _what_is_wrong(identity: Identity) -> str:
    if not _is(identity):
        return f"the ids are {os.getresuid()} and {os.getresgid()}, the groups {os.getgroups()}"
    if identity.uid == 0:
        return ""  # root in another group, as was asked for
    try:
        os.setuid(0)
    except PermissionError:
        pass  # as it should be
    else:
        return "it could become root again"
    if capabilities := _all_capabilities():
        return f"it has the capabilities {capabilities:#x}"
    return ""


def _is(identity: Identity) -> bool:
    ids, groups = (identity.uid,) * 3, (identity.gid,) * 3
    # Whether the group of a process is also among its groups makes no difference.
    all_groups = {identity.gid, *os.getgroups()}
    return os.getresuid() == ids and os.getresgid() == groups and all_groups == {identity.gid, *identity.groups}


def _give_up_inheritable_capabilities() -> None:
    """Do what the kernel leaves undone when the user changes; whoever started us may have been given some."""
    sets = _read_capabilities()
    if sets[2] or sets[5]:
        sets[2] = sets[5] = 0
        _call_about_capabilities("capset", sets)


def _all_capabilities() -> int:
    sets = _read_capabilities()
    return sets[0] | sets[1] | sets[2] | (sets[3] | sets[4] | sets[5]) << 32


def _read_capabilities() -> ctypes.Array[ctypes.c_uint32]:
    """Ask the kernel (/proc may be hidden): effective, permitted and inheritable, lower halves and then upper."""
    sets = (ctypes.c_uint32 * 6)()
    _call_about_capabilities("capget", sets)
    return sets


def _call_about_capabilities(name: str, sets: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # capget(2); 0 is the calling thread
    if getattr(ctypes.CDLL(None, use_errno=True), name)(header, sets) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
