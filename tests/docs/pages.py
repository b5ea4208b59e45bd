"""The pages of the documentation, and what stands in them."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^|\n)\n((?: {4}[^\n]*\n?)+)")


def prose(page: Path) -> str:
    """A page without its code."""
    return INDENTED.sub("\n", FENCED.sub("", page.read_text()))


def code_lines(page: Path) -> Iterator[str]:
    """The lines of all code on a page, those that end in a backslash joined with the next."""
    text = page.read_text()
    for block in (*FENCED.findall(text), *INDENTED.findall(FENCED.sub("", text))):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
