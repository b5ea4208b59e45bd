"""The table of all options in the documentation, written from the settings themselves.

`python -m prefork.config.reference --write` brings the files up to date, `--check` tells whether they are.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from prefork.config.options import DeclaredOption, declared_options

FILES = ("README.md", "docs/options.md")
_BEGIN = "<!-- options: written by `python -m prefork.config.reference --write` -->"
_END = "<!-- end of options -->"


def render_table() -> str:
    """Write one row of Markdown for each option."""
    rows = [_row(option) for option in declared_options().values()]
    return "\n".join(["| option | flag | default | meaning |", "|---|---|---|---|", *rows])


def updated(text: str) -> str:
    """Put the current table between the two markers of a text; a text without them is returned as it is."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        return text
    return f"{before}{_BEGIN}\n\n{render_table()}\n\n{_END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Print the table, or check or write the files named after `--check` or `--write`."""
    if not arguments or arguments[0] not in ("--check", "--write"):
        sys.stdout.write(render_table() + "\n")
        return 0
    stale = [path for path in map(Path, arguments[1:] or FILES) if updated(path.read_text()) != path.read_text()]
    for path in stale:
        if arguments[0] == "--write":
            path.write_text(updated(path.read_text()))
        else:
            sys.stderr.write(
                f"{path}: the table of options is not current; run `python -m prefork.config.reference --write`\n"
            )
    return 1 if stale and arguments[0] == "--check" else 0


def _row(option: DeclaredOption) -> str:
    flags = option.flag if option.name != "target" else "argument"
    if option.is_switch:
        flags = f"{option.flag}, {option.negative_flag}"
    elif option.about.letter:
        flags = f"-{option.about.letter}, {flags}"
    default = f"`{option.default_text}`" if option.default_text else ""
    cells = [f"`{option.name}`", f"`{flags} {'' if option.is_switch else option.metavar}".rstrip() + "`"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, default, option.about.help]) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
