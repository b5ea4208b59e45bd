"""Standard streams that are closed at the start."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from prefork.system.streams import complete_standard_streams
complete_standard_streams()
print("printed")
print("complained", file=sys.stderr)
sys.stdin.read()
os.system("echo from a child; echo its complaint >&2")
with open(sys.argv[1], "w") as file:
    file.writelines(os.readlink(f"/proc/self/fd/{number}") + "\\n" for number in range(3))
"""


@pytest.mark.parametrize(
    ("closed", "numbers"), [("<&-", {0}), (">&-", {1}), ("2>&-", {2}), ("<&- >&- 2>&-", {0, 1, 2}), ("", set())]
)
def test_what_is_closed_leads_nowhere_and_the_rest_stays(tmp_path: Path, closed: str, numbers: set[int]) -> None:
    words = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", PROGRAM, str(tmp_path / "found")]
    done = subprocess.run(words, input=b"", capture_output=True, timeout=60, check=False)

    found = (tmp_path / "found").read_text().splitlines()
    assert done.returncode == 0
    assert {number for number, place in enumerate(found) if place == "/dev/null"} == numbers
    assert done.stdout == (b"" if 1 in numbers else b"printed\nfrom a child\n")
    assert done.stderr == (b"" if 2 in numbers else b"complained\nits complaint\n")
