"""The configuration file: which one is read, and what is said when it cannot be."""

import os
from pathlib import Path

import pytest

from prefork.config.documents import find_document, read_document
from prefork.errors import ConfigurationError


def test_prefork_toml_comes_before_pyproject(tmp_path: Path) -> None:
    (tmp_path / "prefork.toml").write_text("workers = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.prefork]\nworkers = 2\n")
    document = find_document(tmp_path)

    assert document is not None
    assert document.values == {"workers": 1}
    assert document.origin("workers") == "prefork.toml:1"


def test_a_table_of_pyproject_will_do(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n\n[tool.prefork]\nworkers = 2\n")
    document = find_document(tmp_path)

    assert document is not None
    assert document.values == {"workers": 2}
    assert document.origin("workers") == "pyproject.toml:5"


def test_a_pyproject_of_somebody_else_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert find_document(tmp_path) is None


def test_no_file_is_no_document(tmp_path: Path) -> None:
    assert find_document(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"workers = 1\n[server\nx = 1\n", "prefork.toml:2:8: expected ']'"),
        (b"workers = \n", "prefork.toml:1:11: invalid value"),
        (b"a = 1\na = 2\n", "prefork.toml:2:6: cannot overwrite a value"),
        (b"a = 1\nb = [1,\n", "prefork.toml:2:8: "),
        (b"\xef\xbb\xbfa = 1\n", "byte order mark"),
        (b"a = 1\nb = '\xff'\n", "prefork.toml:2:6: is not UTF-8"),
    ],
)
def test_a_broken_file_is_reported_with_line_and_column(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "prefork.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        read_document(path, "prefork.toml")

    assert complaint in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"x\.toml: cannot be read: no such file"):
        read_document(tmp_path / "x.toml", "x.toml")


def test_a_link_to_nowhere_is_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "prefork.toml").symlink_to("nowhere")

    with pytest.raises(ConfigurationError, match="no such file"):
        find_document(tmp_path)


def test_a_pipe_does_not_hold_up_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "prefork.toml")

    with pytest.raises(ConfigurationError, match="is not a regular file"):
        find_document(tmp_path)


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="here: cannot be read: is a directory"):
        read_document(tmp_path, "here")


def test_an_enormous_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prefork.toml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))

    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        find_document(tmp_path)


def test_tool_prefork_must_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nprefork = 3\n")

    with pytest.raises(ConfigurationError, match=r"pyproject\.toml:2: tool\.prefork must be a table"):
        find_document(tmp_path)


@pytest.mark.fault("configuration")
def test_a_file_that_everyone_can_write_is_worth_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "prefork.toml"
    path.write_text("")
    path.chmod(0o666)

    assert read_document(path, "prefork.toml").warnings == (
        "prefork.toml can be written by everyone; chmod o-w prefork.toml",
    )
