"""Every setting as an option of a command: the flags, their help and completion, all from what `Settings` declares."""

from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from prefork.config.load import Loaded, load_settings
from prefork.config.options import DeclaredOption, declared_options


class SettingsCommand(click.Command):
    """A command that takes every setting; its help shows them in groups."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params += [_parameter(option) for option in declared_options().values()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            option = declared_options().get(parameter.name or "")
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(option.about.group if option else "Other", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=28)


def load_from(context: click.Context, *, target_needed: bool = True) -> Loaded:
    """Load the settings of a command: only what the operator really typed counts as a flag."""
    flags = {
        name: value
        for name, value in context.params.items()
        if name in declared_options() and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    target = flags.pop("target", None)
    return load_settings(target, flags, target_needed=target_needed)


class _AsTyped(click.types.StringParamType):
    """Leaves the text alone, so that the loader can report all that is wrong at once; completes choices."""

    def __init__(self, option: DeclaredOption) -> None:
        self.name = option.metavar
        self._words = option.words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        kind = {"FILE": "file", "DIR": "dir"}.get(self.name, "plain")
        if kind != "plain":
            return [CompletionItem(incomplete, type=kind)]
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


def _parameter(option: DeclaredOption) -> click.Parameter:
    if option.name == "target":
        return click.Argument([option.name], required=False, metavar="[TARGET]", type=_AsTyped(option))
    names = [option.name, f"{option.flag}/{option.negative_flag}" if option.is_switch else option.flag]
    if option.about.letter:
        names.append(f"-{option.about.letter}")
    if option.is_switch:
        return click.Option(names, default=None, help=option.about.help)
    worth_telling = any(character.isalnum() for character in option.default_text)
    default = f"  [default: {option.default_text}]" if worth_telling else ""
    return click.Option(
        names,
        type=_AsTyped(option),
        multiple=option.repeatable,
        metavar=option.metavar,
        help=option.about.help + default,
    )
