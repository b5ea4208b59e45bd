"""`prefork dump`: where every thread of a worker is at this moment."""

import click

from prefork.cli.choice import Choice
from prefork.cli.completion import complete_slots
from prefork.cli.output import plain, say, say_json
from prefork.cli.replies import read_dump
from prefork.cli.server_options import server_options


@click.command("dump", short_help="Show the stacks of a worker's threads.")
@click.argument("slot", metavar="[SLOT]", required=False, type=click.IntRange(min=0), shell_complete=complete_slots)
@server_options
def dump_command(choice: Choice, slot: int | None, as_json: bool) -> int:
    """Show the stacks of all threads of the worker in SLOT, or of all workers, with whom each thread serves.

    Works also while a handler holds the interpreter. The stacks are in the log, too. Serving goes on.
    """
    with choice.connect() as connection:
        result = connection.ask({"command": "dump", "slot": slot})
    if as_json:
        say_json(result)
        return 0
    for worker in read_dump(result).workers:
        say(f"worker {worker.slot}   generation {worker.generation}   pid {worker.pid}")
        for line in worker.stacks.splitlines():
            say(plain(line))
        say("")
    return 0
