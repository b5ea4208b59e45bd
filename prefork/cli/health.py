"""`prefork health`: one question, answered by the exit status. It runs every few seconds, so it loads little."""

from typing import Any

import click

from prefork.cli.choice import Choice
from prefork.cli.output import plain, say, say_json
from prefork.cli.server_options import server_options


@click.command("health", short_help="Tell by the exit status whether a server is ready.")
@click.option("--live", "question", flag_value="live", help="Ask only whether the server answers.")
@click.option("--started", "question", flag_value="started", help="Ask whether its first workers have ever been ready.")
@click.option("--ready", "question", flag_value="ready", default=True, help="Ask whether it is ready (the default).")
@server_options
def health_command(choice: Choice, question: str, as_json: bool) -> int:
    """Exit with 0 if the server is ready for connections, with 1 if it is not, with 5 if there is no server.

    It is not ready before its first workers are, while it stops, after `prefork drain`, and while nobody serves. For
    probes that run a command, as those of Kubernetes: --started for the startup probe, --live for the liveness probe,
    --ready for the readiness probe.
    """
    with choice.connect() as connection:
        answer = connection.ask({"command": "health"})
    health = answer if isinstance(answer, dict) else {}
    well = question == "live" or health.get(question) is True
    if as_json:
        say_json({"ok": well, **health})
    else:
        say(plain(f"{'' if well else 'not '}{question}: {_state(health)}"))
    return 0 if well else 1


def _state(health: dict[str, Any]) -> str:
    return f"{health.get('state', 'unknown')}{', drained' if health.get('draining') else ''}"
