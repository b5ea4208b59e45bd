"""`prefork top`: what a server does, live in a terminal. The screen itself is in `prefork.cli.screen`."""

import sys

import click

from prefork.cli.choice import Choice
from prefork.cli.server_options import server_options_without_json
from prefork.errors import UsageError


@click.command("top", short_help="Watch a running server in the terminal, and steer it.")
@server_options_without_json
def top_command(choice: Choice) -> int:
    """Watch a running server: its workers, what their threads serve and for how long, and each decision as it is taken.

    Keys reload it, scale it, recycle a worker and show the stacks of one. It needs `pip install 'prefork[top]'`.
    """
    try:
        from prefork.cli.screen import Top
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        raise UsageError("prefork top needs the package textual; pip install 'prefork[top]'") from None
    with choice.connect() as connection:  # or say at once that there is none
        place = connection.place
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("prefork top needs a terminal; `prefork status` prints the same once")
    Top(place, choice).run()
    return 0
