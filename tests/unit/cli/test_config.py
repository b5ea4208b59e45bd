"""`prefork config`: every value with its origin."""

import json
from pathlib import Path

import pytest

from prefork.cli.main import main
from prefork.config.options import declared_options


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefork.toml").write_text('threads = 9\nbind = [":1", ":2"]\n\n[server]\nmotd = "hi"\n')
    return tmp_path


def test_each_value_has_its_origin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFORK_SURGE", "3")
    code = main(["config", "app:Handler", "-w", "2", "--no-reload"])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert ["target", "app:Handler", "TARGET"] in lines
    assert ["workers", "2", "--workers"] in lines
    assert ["surge", "3", "PREFORK_SURGE"] in lines
    assert ["threads", "9", "prefork.toml:1"] in lines
    assert ["bind", "tcp://0.0.0.0:1", "prefork.toml:2"] in lines
    assert ["tcp://0.0.0.0:2"] in lines
    assert ["server", "motd", "=", "'hi'", "prefork.toml:4"] in lines
    assert ["reload", "false", "--reload"] in lines
    assert ["drain_timeout", "30s", "default"] in lines


def test_a_target_is_not_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    assert capsys.readouterr().err == ""


def test_json_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["config", "--json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert list(shown) == list(declared_options())
    assert shown["bind"] == {"value": ["tcp://0.0.0.0:1", "tcp://0.0.0.0:2"], "origin": "prefork.toml:2"}
    assert shown["handler"] == {"value": None, "origin": "default"}


def test_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    (directory / "prefork.toml").chmod(0o666)
    code = main(["config"])

    assert code == 0
    assert capsys.readouterr().err == "warning: prefork.toml can be written by everyone; chmod o-w prefork.toml\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_looks_like_a_secret_is_not_shown(capsys: pytest.CaptureFixture[str], form: list[str]) -> None:
    code = main(["config", "--env", "DB_PASSWORD=hidden", "--env", "TZ=UTC", "--set", "api_token='hidden'", *form])

    shown = capsys.readouterr().out
    assert code == 0
    assert "hidden" not in shown
    assert "DB_PASSWORD=***" in shown
    assert "TZ=UTC" in shown
