"""The settings on the command line: nothing is declared twice, and only what was typed counts."""

import click
import pytest
from click.shell_completion import ShellComplete

from prefork.cli.main import prefork
from prefork.cli.run import run_command
from prefork.cli.setting_options import load_from
from prefork.config.options import DeclaredOption, declared_options

OPTIONS = [option for option in declared_options().values() if option.name != "target"]
# A command keeps the names of its help from the first context that it is used in.
PARENT = click.Context(prefork, info_name="prefork", **prefork.context_settings)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_help_of_run_explains_every_option(option: DeclaredOption) -> None:
    text = run_command.get_help(click.Context(run_command, PARENT, "prefork run", terminal_width=80))

    words = " ".join(text.split())
    assert f" {option.flag} " in words
    assert " ".join(option.about.help.split()) in words


def context(*arguments: str) -> click.Context:
    return run_command.make_context("run", list(arguments), PARENT)


def test_only_what_was_typed_counts() -> None:
    loaded = load_from(
        context(*["app:Handler", "-w", "3", "-b", ":1", "-b", ":2", "--no-reload", "--set", "a=1", "-t", "4"])
    )

    typed = {name: origin for name, origin in loaded.origins.items() if origin != "default"}
    assert typed == {
        "target": "TARGET",
        "workers": "--workers",
        "bind": "--bind",
        "reload": "--reload",
        "server": "--set",
        "threads": "--threads",
    }
    assert [address.port for address in loaded.settings.bind] == [1, 2]


@pytest.mark.parametrize(
    ("words", "incomplete", "completions"),
    [
        (["run", "--preload"], "a", ["auto", "always"]),
        (["run", "--workers"], "", ["auto"]),
        (["run"], "--drain", ["--drain-delay", "--drain-timeout"]),
        ([], "re", ["reload", "recycle", "reopen"]),
    ],
)
def test_a_shell_can_complete(words: list[str], incomplete: str, completions: list[str]) -> None:
    shell = ShellComplete(prefork, {}, "prefork", "_PREFORK_COMPLETE")

    assert [item.value for item in shell.get_completions(words, incomplete)] == completions


def test_a_file_is_completed_by_the_shell_itself() -> None:
    shell = ShellComplete(prefork, {}, "prefork", "_PREFORK_COMPLETE")

    assert [item.type for item in shell.get_completions(["run", "--config"], "x")] == ["file"]
