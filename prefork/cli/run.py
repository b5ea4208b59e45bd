"""`prefork run`: the server itself."""

import click

from prefork.cli.setting_options import SettingsCommand, load_from
from prefork.errors import PreforkError


@click.command("run", cls=SettingsCommand, short_help="Serve a handler, server or factory.")
@click.pass_context
def run_command(context: click.Context, /, **_: object) -> int:
    """Serve TARGET with worker processes until stopped.

    TARGET is MODULE:NAME: a handler class, a server class, a server, or a function that returns one of them.

    Each option can also stand in the environment (--drain-timeout as PREFORK_DRAIN_TIMEOUT) and in prefork.toml or in
    [tool.prefork] of pyproject.toml (as drain_timeout). A flag wins over the environment, that over the file. `prefork
    config` shows the result. A TIME is in seconds, or has a unit: 500ms, 30s, 2m, 1h.
    """
    # Only here: the other commands serve nothing.
    from prefork.master.main import run
    from prefork.master.upgrade import Predecessor
    from prefork.system.succession import take_estate

    estate = take_estate()
    predecessor = Predecessor(estate) if estate is not None else None
    try:
        return run(load_from(context), predecessor)
    except PreforkError as error:
        if predecessor is not None:
            predecessor.tell_failure(str(error), error.detail)
        raise
