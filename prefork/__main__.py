"""`python -m prefork` is the command `prefork`."""

import os
import sys


def _leave_the_directory_to_the_application() -> None:
    """Take the current directory, which python(1) puts first for -m, out of the path.

    What lies there is the application's. The master, which may be root, must not import it in the place of a module of
    its own; whoever runs the application adds the directory again.
    """
    try:
        if sys.path[:1] == [os.getcwd()]:
            del sys.path[0]
    except FileNotFoundError:
        pass  # it was removed, and then Python has not put it there


if __name__ == "__main__":
    _leave_the_directory_to_the_application()
    from prefork.cli.main import main

    sys.exit(main())
