"""Network namespaces: as far as the network is concerned, each is a machine of its own."""

import ctypes
import itertools
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support import tools

_CLONE_NEWNET = 0x40000000  # setns(2)
_numbers = itertools.count(1)


@contextmanager
def namespaces(*names: str) -> Iterator[dict[str, str]]:
    """Make a namespace for each name; yield what each is called on this system. Afterwards they are gone."""
    tools.require_root()
    tools.require("ip")
    number = f"{secrets.token_hex(3)}-{next(_numbers)}"
    made = {name: f"prefork-{name}-{number}" for name in names}
    with ExitStack() as stack:
        for namespace in made.values():
            _make(namespace)
            stack.callback(tools.run, ["ip", "netns", "del", namespace])
            tools.run(["ip", "-n", namespace, "link", "set", "lo", "up"])
        yield made


def _make(name: str) -> None:
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tools.unavailable(f"no network namespace can be made: {done.stderr.strip()}")


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Have the calling thread in a namespace; the threads and processes that it starts there stay there."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(namespace)
        yield
    finally:
        _set_namespace(here)
        os.close(here)


def enter(namespace: str) -> None:
    """Move the calling thread into a namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)


def set_filter(namespace: str, rule: str) -> None:
    """Apply a rule of nft to all that comes to and goes from a namespace, and no other."""
    chains = "".join(
        f"chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}\n" for hook in ("input", "output")
    )
    rules = f"table inet faults {{}}\ndelete table inet faults\ntable inet faults {{\n{chains}}}\n"
    tools.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], stdin=rules.encode())


def _set_namespace(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
