"""The command line: help that fits, errors in one line, exit codes of the contract."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefork import __version__
from prefork.cli.main import main

COMMANDS = ["run", "check", "config", "list", "status", "reload", "scale", "stop", "reopen"]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"prefork {__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([flag])

    out = capsys.readouterr().out
    assert code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in out] == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself_in_80_columns(
    command: str, flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code = main([command, flag])

    out = capsys.readouterr().out
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80


def test_nothing_at_all_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "Usage: prefork" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["relod"], "no such command 'relod'; did you mean reload? (`prefork --help` explains)"),
        (["run", "--worker", "3"], "no such option --worker; did you mean --workers? (`prefork run --help` explains)"),
        (["run", "a:b", "c:d"], "got unexpected extra argument (c:d) (`prefork run --help` explains)"),
        (["list", "--jsn"], "no such option --jsn; did you mean --json? (`prefork list --help` explains)"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)

    assert code == 2
    assert capsys.readouterr() == ("", f"prefork: {line}\n")


def test_a_wrong_configuration_is_reported_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", "app:Handler", "--workers", "0", "--bind", "nowhere"])

    assert code == 2
    assert capsys.readouterr().err == (
        "prefork: --bind: 'nowhere' has no port; write tcp://nowhere:PORT\n"
        "prefork: --workers: must be at least 1, not 0\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "prefork", "--version"], stdout=output, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--json"]], ids=" ".join)
def test_an_output_that_takes_nothing_more_is_an_error_in_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "prefork", *arguments], stdout=output, stderr=subprocess.PIPE, check=False
        )

    assert done.returncode == 1
    assert done.stderr == b"prefork: cannot write to standard output: no space left on device\n"


def test_the_command_imports_nothing_from_the_directory_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('imported')")
    command = [sys.executable, "-m", "prefork", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"prefork {__version__}\n", "")


def test_a_control_command_loads_nothing_that_serves() -> None:
    program = (
        "import sys; from prefork.cli.main import main; main(['list', '--json']);"
        "heavy = ('prefork.master', 'prefork.serving', 'prefork.config');"
        "print([name for name in sys.modules if name.startswith(heavy)], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr == "[]\n"
