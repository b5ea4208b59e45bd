"""No file lies in deploy/ that no tool has read."""

from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY
from tests.support.container import ROOT

# Directory -> what reads its files, all of them.
READ_WHOLE = {
    "systemd": "tests/systemd/conftest.py",
    "kubernetes": "tests/deploy/test_kubernetes.py",
}
FILES = sorted(path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file())


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] not in READ_WHOLE], ids=str)
def test_a_file_is_named_by_a_test(file: Path) -> None:
    named = f'"{file}"'

    assert any(named in test.read_text() for test in (ROOT / "tests/deploy").glob("test_*.py")), (
        f"{named} is read by none"
    )


def test_each_whole_directory_has_its_reader() -> None:
    assert {file.parts[0] for file in FILES} >= READ_WHOLE.keys()
    assert [f"deploy/{name}" for name in READ_WHOLE if not (ROOT / READ_WHOLE[name]).exists()] == []
