"""`prefork config`: every setting, and where it comes from."""

import re

import click
import msgspec

from prefork.address import BindAddress
from prefork.cli.output import plain, remark, say, say_json, table
from prefork.cli.setting_options import SettingsCommand, load_from
from prefork.config.load import Loaded
from prefork.config.options import declared_options, show

_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)


@click.command("config", cls=SettingsCommand, short_help="Show every setting and where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
@click.pass_context
def config_command(context: click.Context, /, as_json: bool, **_: object) -> int:
    """Show every setting that `prefork run` would use with the same arguments, and where it comes from."""
    loaded = load_from(context, target_needed=False)
    for warning in loaded.warnings:
        remark(f"warning: {warning}")
    if as_json:
        say_json(_as_json(loaded))
    else:
        for line in render_settings(loaded):
            say(plain(line))
    return 0


def render_settings(loaded: Loaded) -> list[str]:
    """Write one line for each setting; values of a list stand below each other."""
    rows = []
    for name in declared_options():
        value = getattr(loaded.settings, name)
        texts = [show(item) for item in value] if isinstance(value, tuple) else [show(value)]
        if isinstance(value, dict):
            texts = [f"{key} = {_unless_secret(key, item)}" for key, item in value.items()]
        if name == "env":
            texts = [_without_secret(text) for text in texts]
        first, *rest = texts or [""]
        rows.append([name, first, loaded.origins[name]])
        rows += [["", text, ""] for text in rest]
    return table(rows, "<<<")


def _as_json(loaded: Loaded) -> dict[str, object]:
    settings = msgspec.structs.replace(
        loaded.settings,
        env=tuple(_without_secret(text) for text in loaded.settings.env),
        server={name: _unless_secret(name, value) for name, value in loaded.settings.server.items()},
    )
    return {
        name: {"value": _plain_value(getattr(settings, name)), "origin": loaded.origins[name]}
        for name in declared_options()
    }


def _without_secret(assignment: str) -> str:
    name, equals, value = assignment.partition("=")
    return f"{name}{equals}{_unless_secret(name, value)}"


def _unless_secret(name: str, value: object) -> object:
    """Return the value unless its name says that nobody should read it here."""
    return "***" if _SECRET.search(name) else value


def _plain_value(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain_value(item) for name, item in value.items()}
    if isinstance(value, BindAddress) or not isinstance(value, (str, int, float, list, type(None))):
        return str(value)
    return value
