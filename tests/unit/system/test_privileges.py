"""Becoming another user for good, done by processes that do nothing else."""

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from prefork.errors import UsageError
from prefork.system.privileges import Identity, find_identity

NOBODY = pwd.getpwnam("nobody")

# Everything is imported before: the new user may not be able to read where Python is installed.
PROGRAM = """
import ctypes, os
from prefork.errors import PreforkError
from prefork.system.privileges import become, check_possible, check_readable, find_identity
for name in ("HOME", "USER", "LOGNAME"):
    os.environ[name] = "untouched"
try:
    {act}
    print("ids", *os.getresuid(), *os.getresgid(), "groups", *os.getgroups())
    print(*(line for line in open("/proc/self/status") if line.startswith("Cap") and not line.startswith("CapBnd")))
    print("home", *(os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")))
except PreforkError as error:
    print(error.exit_code, error)
"""


def after(act: str, before: str = "") -> str:
    """Return what a new process says after it has done this."""
    program = PROGRAM.format(act=f"{before}; {act}" if before else act)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.root
def test_afterwards_ids_groups_and_capabilities_are_exactly_those_of_the_user() -> None:
    said = after("become(find_identity('nobody', None))")

    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert f"ids {uid} {uid} {uid} {gid} {gid} {gid} groups {gid}\n" in said
    assert "CapEff:\t0000000000000000\n" in said
    assert "CapPrm:\t0000000000000000\n" in said
    assert f"home {NOBODY.pw_dir} nobody nobody\n" in said


@pytest.mark.root
def test_capabilities_that_programs_would_inherit_are_given_up() -> None:
    some = "(ctypes.c_uint32 * 6)(0xC0, 0xC0, 0xC0)"  # CAP_SETGID and CAP_SETUID
    given = f"ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), {some})"
    said = after("become(find_identity('nobody', None))", given)

    assert said.count(":\t0000000000000000\n") == 4


@pytest.mark.root
def test_a_number_without_a_name_becomes_that_number_with_the_one_group() -> None:
    said = after("become(find_identity('54321', '100'))")

    assert "ids 54321 54321 54321 100 100 100 groups 100\n" in said
    assert "home None None None\n" in said


@pytest.mark.root
def test_a_group_alone_changes_the_groups_and_not_the_user() -> None:
    said = after("become(find_identity(None, '100'))")

    assert "ids 0 0 0 100 100 100 groups 100\n" in said
    assert "home untouched untouched untouched\n" in said


@pytest.mark.root
def test_without_the_right_to_change_the_user_it_is_an_error() -> None:
    lose_capabilities = "ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())"
    said = after("become(find_identity('nobody', None))", lose_capabilities)

    assert said.startswith("3 cannot become nobody (uid ")
    assert "operation not permitted (CAP_SETUID and CAP_SETGID are needed)" in said


@pytest.mark.fault("privileges")
@pytest.mark.root
def test_a_user_who_could_become_root_again_is_an_error() -> None:
    keep_capabilities = "ctypes.CDLL(None).prctl(28, 4)"  # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
    said = after("become(find_identity('nobody', None))", keep_capabilities)

    assert said.startswith("3 cannot become nobody")
    assert "afterwards it could become root again" in said


@pytest.mark.fault("privileges")
@pytest.mark.root
def test_a_user_who_keeps_capabilities_to_take_up_later_is_an_error() -> None:
    said = after("become(find_identity('nobody', None))", "ctypes.CDLL(None).prctl(8, 1)")  # PR_SET_KEEPCAPS

    assert said.startswith("3 cannot become nobody")
    assert "afterwards it has the capabilities 0x" in said


@pytest.mark.root
def test_a_user_who_cannot_read_python_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "private").touch(mode=0o600)
    said = after(f"become(find_identity('nobody', None)); check_readable(['{tmp_path}/private'])")

    assert "3 uid " in said
    assert "private (install Python and prefork where the user of the workers may read)" in said


@pytest.mark.root
def test_whoever_is_not_root_is_told_before_anything_begins() -> None:
    said = after("os.setresuid(1234, 1234, 1234); check_possible('nobody', None)")

    assert said.startswith("2 cannot become nobody")
    assert "only root can, and this process has uid 1234" in said


def test_whoever_is_that_user_already_may_say_so() -> None:
    uid, gid = os.geteuid(), os.getegid()
    groups = tuple(sorted(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)))

    assert find_identity(str(uid), str(gid)) == Identity(
        uid, gid, groups, pwd.getpwuid(uid).pw_name, pwd.getpwuid(uid).pw_dir
    )


@pytest.mark.root
def test_whoever_is_that_user_without_further_groups_may_say_so() -> None:
    already = f"os.setgroups([]); os.setgid({NOBODY.pw_gid}); os.setuid({NOBODY.pw_uid})"
    said = after("check_possible('nobody', None); become(find_identity('nobody', None))", already)

    assert f"ids {NOBODY.pw_uid} {NOBODY.pw_uid} " in said


def test_a_number_without_a_name_needs_a_group() -> None:
    with pytest.raises(UsageError, match="set group, too"):
        find_identity("54321", None)


def test_nobody_is_meant_if_nothing_is_set() -> None:
    assert find_identity(None, None) is None


def test_the_groups_of_a_named_user_are_all_of_them() -> None:
    member_of = [entry for entry in grp.getgrall() if entry.gr_mem]
    if not member_of:
        pytest.skip("no user of this machine is in a second group")
    group = member_of[0]
    identity = find_identity(group.gr_mem[0], None)

    assert identity is not None
    assert group.gr_gid in identity.groups
