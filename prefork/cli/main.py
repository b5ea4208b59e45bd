"""The command `prefork`: finds the subcommand, and turns every error into one line and an exit code."""

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from prefork import __version__
from prefork.cli.output import complain
from prefork.errors import PreforkError, UsageError, nearest_name
from prefork.system.streams import complete_standard_streams

# Imported when used, so that `prefork status` loads nothing that serves.
_COMMANDS = {
    "Serve": {
        "run": "prefork.cli.run:run_command",
        "check": "prefork.cli.check:check_command",
        "config": "prefork.cli.config:config_command",
        "completion": "prefork.cli.completion:completion_command",
    },
    "Control a running server": {
        "list": "prefork.cli.status:list_command",
        "status": "prefork.cli.status:status_command",
        "top": "prefork.cli.top:top_command",
        "health": "prefork.cli.health:health_command",
        "reload": "prefork.cli.orders:reload_command",
        "scale": "prefork.cli.orders:scale_command",
        "dump": "prefork.cli.dump:dump_command",
        "recycle": "prefork.cli.orders:recycle_command",
        "drain": "prefork.cli.orders:drain_command",
        "undrain": "prefork.cli.orders:undrain_command",
        "stop": "prefork.cli.orders:stop_command",
        "upgrade": "prefork.cli.orders:upgrade_command",
        "reopen": "prefork.cli.orders:reopen_command",
    },
}

# What a write to standard output fails with, that other calls which name no file hardly do (write(2)).
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in _COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for commands in _COMMANDS.values():
            if cmd_name in commands:
                module, _, name = commands[cmd_name].partition(":")
                command = getattr(importlib.import_module(module), name)
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = nearest_name(args[0], names)
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {near}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in _COMMANDS.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(60) if command else ""))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`prefork COMMAND --help` explains a command and its options.",
)
@click.version_option(__version__, "--version", message="prefork %(version)s")
@click.pass_context
def prefork(context: click.Context, /) -> int | None:
    """Serve Python socketserver handlers with worker processes."""
    if context.invoked_subcommand is not None:
        return None
    click.echo(context.get_help(), err=True)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    complete_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A status shows what clients chose, and not every terminal has all of Unicode. Standard error does the same.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = prefork.main(arguments, prog_name="prefork", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        complain(PreforkError("interrupted"))
        return 1
    except click.ClickException as error:
        complain(_in_our_words(error))
        return error.exit_code
    except PreforkError as error:
        complain(error)
        return error.exit_code
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        # Python would complain at exit about what it cannot write either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # else the reader has seen enough
            complain(PreforkError(f"cannot write to standard output: {os.strerror(error.errno).lower()}"))
        return 1
    return code if isinstance(code, int) else 0


def _in_our_words(error: click.ClickException) -> UsageError:
    """One line in the style of all our errors, instead of three."""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        message = f"no such option {error.option_name}"
        message += f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
    where = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        where = f" (`{error.ctx.command_path} --help` explains)"
    return UsageError(f"{message[:1].lower()}{message[1:]}{where}")
