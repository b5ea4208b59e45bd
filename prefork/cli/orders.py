"""The commands that change a running server; each returns when that is done, or says why it was not."""

import os
import re
import select
from typing import Any

import click

from prefork.cli.choice import Choice
from prefork.cli.client import PATIENCE, Connection
from prefork.cli.completion import complete_slots
from prefork.cli.output import complain, say, say_json
from prefork.cli.progress import Progress
from prefork.cli.server_options import server_options
from prefork.errors import NotDone, UsageError


@click.command("reload", short_help="Start new workers from the code and settings on disk.")
@server_options
def reload_command(choice: Choice, as_json: bool) -> int:
    """Read the settings again, load the code anew and replace the workers, without losing a connection.

    Follows until the new code serves, or until it is given up: then the old workers go on serving, the reason is
    printed and the exit status is 1.
    """
    with choice.connect() as connection:
        done, result = _order(connection, {"command": "reload"}, as_json, "reloading")
    if done and not as_json:
        say(f"reloaded: generation {result.get('generation', '?')} serves" if isinstance(result, dict) else "reloaded")
    return 0 if done else 1


@click.command("scale", short_help="Set the number of workers.", context_settings={"ignore_unknown_options": True})
@click.argument("workers", metavar="N|+N|-N")
@server_options
def scale_command(choice: Choice, workers: str, as_json: bool) -> int:
    """Set the number of workers, or change it by +N or -N, until the configuration says another one.

    Returns when that many workers serve.
    """
    if not re.fullmatch(r"[+-]?\d{1,6}", workers, re.ASCII):
        raise UsageError(f"N must be a number of workers, or a change such as +1 or -1, not {workers!r}")
    kind = "change" if workers[0] in "+-" else "workers"
    with choice.connect() as connection:
        done, _ = _order(connection, {"command": "scale", kind: int(workers)}, as_json, "scaling")
    if done and not as_json:
        say(f"scaled to {workers}" if kind == "workers" else f"scaled by {workers}")
    return 0 if done else 1


@click.command("recycle", short_help="Replace the workers, one after another.")
@click.argument("slot", metavar="[SLOT]", required=False, type=click.IntRange(min=0), shell_complete=complete_slots)
@server_options
def recycle_command(choice: Choice, slot: int | None, as_json: bool) -> int:
    """Replace every worker, or the one in SLOT, by a new one with the same code.

    Each replacement serves before the old worker is drained. Returns when none of the old workers accepts any more.
    """
    with choice.connect() as connection:
        request: dict[str, object] = {"command": "recycle"}
        if slot is not None:
            request["slot"] = slot
        done, result = _order(connection, request, as_json, "recycling")
    if done and not as_json:
        say(f"recycled: {result.get('reason', '')}" if isinstance(result, dict) else "recycled")
    return 0 if done else 1


@click.command("drain", short_help="Announce a server as not ready, while it serves on.")
@server_options
def drain_command(choice: Choice, as_json: bool) -> int:
    """Have the server announced as not ready, so that a load balancer sends nobody new. It serves on.

    This lasts until `prefork undrain`, across reloads.
    """
    with choice.connect() as connection:
        done, _ = _order(connection, {"command": "drain"}, as_json, "draining")
    if done and not as_json:
        say("drained: announced as not ready, serving on")
    return 0 if done else 1


@click.command("undrain", short_help="Announce a drained server as ready again.")
@server_options
def undrain_command(choice: Choice, as_json: bool) -> int:
    """End what `prefork drain` began."""
    with choice.connect() as connection:
        done, result = _order(connection, {"command": "undrain"}, as_json, "undraining")
    if done and not as_json:
        ready = isinstance(result, dict) and result.get("ready") is True
        say("undrained: ready" if ready else "undrained: not ready for another reason, see `prefork status`")
    return 0 if done else 1


@click.command("stop", short_help="Stop a server.")
@click.option("--quick", is_flag=True, help="Cut open connections instead of letting them end.")
@server_options
def stop_command(choice: Choice, quick: bool, as_json: bool) -> int:
    """Stop a server, and return when its process is gone.

    Open connections may end by themselves within drain_timeout, unless --quick is given.
    """
    with choice.connect() as connection:
        process = _open_process(connection.pid)
        try:
            done, _ = _order(connection, {"command": "stop", "quick": quick}, as_json, "stopping")
            if done:
                _wait_for_end(process, connection.pid)
        finally:
            if process is not None:
                os.close(process)
    if done and not as_json:
        say(f"stopped: process {connection.pid} is gone")
    return 0 if done else 1


@click.command("upgrade", short_help="Replace the server by a new one, with its listeners.")
@server_options
def upgrade_command(choice: Choice, as_json: bool) -> int:
    """Start the server anew, as it was started: with the Python, the prefork and the options that are there now.

    The new one takes over the listeners, and when it serves, the old one lets its connections end and leaves. Follows
    until then. If the new one does not get ready, nothing changes, the reason is printed and the exit status is 1.
    """
    with choice.connect() as connection:
        done, result = _order(connection, {"command": "upgrade"}, as_json, "upgrading")
    if done and not as_json:
        say(f"upgraded: process {result.get('pid', '?')} serves" if isinstance(result, dict) else "upgraded")
    return 0 if done else 1


@click.command("reopen", short_help="Open the log files anew, after they were rotated.")
@server_options
def reopen_command(choice: Choice, as_json: bool) -> int:
    """Open all log files anew, that of the access log too, in all processes, after they were renamed."""
    with choice.connect() as connection:
        done, _ = _order(connection, {"command": "reopen"}, as_json, "reopening")
    return 0 if done else 1


def _order(connection: Connection, request: dict[str, object], as_json: bool, doing: str) -> tuple[bool, Any]:
    """Follow an order to its end; print the failure, and with --json the outcome in both cases."""
    try:
        with Progress(doing) as progress:
            result = connection.ask(request, progress)
    except NotDone as error:
        complain(error)
        if as_json:
            say_json({"ok": False, "error": str(error), "detail": error.detail})
        return False, None
    if as_json:
        say_json({"ok": True, "result": result})
    return True, result


def _open_process(pid: int) -> int | None:
    """Get hold of the process before it is told to stop; a pid alone could be another's by the time we look."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # in another pid namespace: the end of the connection must do


def _wait_for_end(process: int | None, pid: int) -> None:
    if process is None:
        return
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    if not waiting.poll(PATIENCE * 1000):
        raise NotDone(f"the server has said good-bye, but its process {pid} is still there after {PATIENCE:g} s")
