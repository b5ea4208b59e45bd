"""What the documentation tells people to type exists: commands, their options, make targets."""

import re
import shlex

import click
import pytest

from prefork.cli.main import prefork
from tests.docs.pages import PAGES, ROOT, code_lines

# What may stand before the command: a prompt, variables, programs that run another.
COMMAND = re.compile(r"^(?:[$#] )?(?:\w+=\S* |sudo |exec |nohup |\S*python3? -m |\S*/bin/)*prefork( .*)?$")
SHELL = {"&", "&&", "|", "||", ";", ">", ">>", "2>", "2>&1", "<"}


def commands() -> list[str]:
    """Every command line of ours that the pages, and the docstrings of the examples, show."""
    sources = [line for page in PAGES for line in code_lines(page)]
    sources += [line for path in ROOT.glob("examples/**/*.py") for line in path.read_text().splitlines()]
    found = [match[1] or "" for line in sources if (match := COMMAND.match(line.strip()))]
    return sorted({command.strip() for command in found})


def words_of(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    ends = [place for place, word in enumerate(words) if word in SHELL]
    return words[: ends[0]] if ends else words


@pytest.mark.parametrize("command", commands())
def test_a_command_exists_with_its_options(command: str) -> None:
    context = click.Context(prefork, info_name="prefork", **prefork.context_settings)
    # The parsers raise NoSuchOption, and complain of missing values.
    _, words, _ = prefork.make_parser(context).parse_args(words_of(command))
    if words:
        name, subcommand, arguments = prefork.resolve_command(context, words)
        assert subcommand is not None
        subcommand.make_parser(click.Context(subcommand, info_name=name, parent=context)).parse_args(arguments)


def make_targets() -> list[str]:
    lines = [line for page in PAGES for line in code_lines(page)]
    inline = [found for page in PAGES for found in re.findall(r"`(make [a-z-]+)[^`]*`", page.read_text())]
    return sorted({match[1] for line in [*lines, *inline] if (match := re.match(r"^make ([a-z-]+)", line))})


@pytest.mark.parametrize("target", make_targets())
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
