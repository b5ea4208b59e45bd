"""What is printed about a failed request.

One text, written at once, so that threads do not mix their lines. It is had even when no descriptor is left to load
`traceback` or the source with: then without the source.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RULE = "-" * 40


def failure_text(client_address: object) -> str:
    """Return the report of the exception being handled."""
    heading = f"Exception occurred during processing of request from {client_address!s}"
    return f"{RULE}\n{heading}\n{_traceback()}{RULE}\n"


def _traceback() -> str:
    error = sys.exc_info()[1]
    try:
        import traceback  # as late as this because it is slow to load

        return traceback.format_exc()
    except OSError:
        return "".join(_bare_lines(error)) if error is not None else ""


def _bare_lines(error: BaseException) -> Iterator[str]:
    yield "Traceback (most recent call last):\n"
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        yield f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}\n'
        step = step.tb_next
    yield f"{type(error).__name__}: {error}\n"
