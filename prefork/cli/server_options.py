"""The options that every control command takes: which server, and how to print."""

import functools
from collections.abc import Callable
from typing import Any

import click

from prefork.cli.choice import Choice
from prefork.cli.completion import complete_names, complete_pids

Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def server_options(command: Command) -> Command:
    """Add --pid, --name, --control and --json; the command receives `choice` and `as_json`."""
    return json_option(server_options_without_json(command))


def server_options_without_json(command: Command) -> Command:
    """Add --pid, --name and --control; the command receives `choice`."""

    @click.option("--control", metavar="PATH", help="The server with this control socket.")
    @click.option("--name", metavar="NAME", help="The server with this name.", shell_complete=complete_names)
    @click.option(
        "--pid", metavar="PID", type=int, help="The server whose master is this process.", shell_complete=complete_pids
    )
    @functools.wraps(command)
    def with_choice(pid: int | None, name: str | None, control: str | None, **rest: Any) -> Any:
        return command(choice=Choice(pid, name, control), **rest)

    return with_choice
