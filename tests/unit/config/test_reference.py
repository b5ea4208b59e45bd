"""The table of options in the documentation is the one that the settings give."""

from pathlib import Path

import pytest

from prefork.config.options import declared_options
from prefork.config.reference import FILES, main, render_table, updated

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", FILES)
def test_the_documentation_is_current(name: str) -> None:
    text = (ROOT / name).read_text()

    assert updated(text) == text, "run `python -m prefork.config.reference --write`"


def test_the_page_about_options_has_the_table() -> None:
    assert render_table() in (ROOT / "docs/options.md").read_text()


def test_every_option_has_a_row() -> None:
    assert len(render_table().splitlines()) == 2 + len(declared_options())


def test_a_stale_file_is_found_and_brought_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "options.md"
    current = (ROOT / "docs/options.md").read_text()
    path.write_text(current.replace("| `threads` |", "| `thraeds` |"))

    assert main(["--check", str(path)]) == 1
    assert "is not current" in capsys.readouterr().err
    assert main(["--write", str(path)]) == 0
    assert path.read_text() == current
    assert main(["--check", str(path)]) == 0


def test_a_text_without_markers_is_left_alone() -> None:
    assert updated("# Title\n") == "# Title\n"
