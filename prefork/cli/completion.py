"""Completion in bash, zsh and fish: `prefork completion SHELL`, and what can follow on the command line.

The shell runs this program at each press of the key, so whatever goes wrong here offers nothing and says nothing.
"""

import re
from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem, get_completion_class

from prefork.cli.choice import Asked, Choice, ask_all
from prefork.cli.output import say
from prefork.errors import PreforkError

SHELLS = ("bash", "zsh", "fish")
_IMPATIENCE = 1.0  # seconds that one server may take to answer
# Whatever else is in a name, bash would put on the line as it is: for root, what another user chose, as a command.
_HARMLESS = re.compile(r"[\w@%+=:,./-]+")


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print what makes SHELL complete the commands, their options, and the running servers.

    \b
    bash   in ~/.bashrc:  eval "$(prefork completion bash)"
    zsh    in ~/.zshrc, after compinit:  eval "$(prefork completion zsh)"
    fish   once:  prefork completion fish > ~/.config/fish/completions/prefork.fish
    """
    from prefork.cli.main import prefork  # it imports the commands, of which this is one

    script = get_completion_class(shell)
    assert script is not None
    say(script(prefork, {}, "prefork", "_PREFORK_COMPLETE").source())
    return 0


def complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the running servers."""
    offered: dict[str, list[str]] = {}
    for place, status in _servers():
        name = str(status.get("name", "")) if status is not None else ""
        if name.startswith(incomplete) and _HARMLESS.fullmatch(name):
            offered.setdefault(name, []).append(f"pid {place.pid}")
    return [CompletionItem(name, help=", ".join(pids)) for name, pids in offered.items()]


def complete_pids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the pids of the running servers."""
    return [
        CompletionItem(str(place.pid), help=str(status.get("name", "")) if status else "does not answer")
        for place, status in _servers()
        if str(place.pid).startswith(incomplete)
    ]


def complete_slots(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the slots in which workers of the chosen server serve."""
    chosen = Choice(*(context.params.get(name) for name in ("pid", "name", "control")))
    try:
        with chosen.connect(_IMPATIENCE) as connection:
            workers = connection.ask({"command": "status"})["workers"]
    except (PreforkError, KeyError, TypeError):
        return []
    serving = [worker for worker in workers if worker.get("state") == "serving"]
    return [
        CompletionItem(str(worker["slot"]), help=f"pid {worker.get('pid')}")
        for worker in sorted(serving, key=lambda worker: int(worker["slot"]))
        if str(worker["slot"]).startswith(incomplete)
    ]


def _servers() -> Iterator[Asked]:
    try:
        yield from ask_all(_IMPATIENCE)
    except PreforkError:
        return
