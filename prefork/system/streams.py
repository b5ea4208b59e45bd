"""Standard input, output and error, for a program that was started without one of them."""

import os
import sys


def complete_standard_streams() -> None:
    """Lead those that are closed to /dev/null.

    Otherwise a listener or a connection of a client gets such a number, and with it what C code, child processes and
    crash handlers write there; and Python has None for the stream, which few programs expect.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below are open by now. Programs that we start inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, f"__{name}__") is None:
            stream = os.fdopen(
                number, "w" if number else "r", encoding="utf-8", errors="backslashreplace", closefd=False
            )
            setattr(sys, f"__{name}__", stream)
            setattr(sys, name, stream)
