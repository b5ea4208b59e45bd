"""What a master leaves to its successor across exec(2): open descriptors, and one variable that says what they are.

The descriptors keep their numbers. The variable is taken out of the environment at once, so that no other process can
take them for its own.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from prefork.system.inherited import Inherited
from prefork.system.notify import ServiceManager
from prefork.system.sockets import Listener

VARIABLE = "PREFORK_SUCCESSION"


@dataclass(frozen=True, slots=True)
class PassedListener:
    """A listener by its place: `tcp://0.0.0.0:9999`; with the inode of its socket file if we made one."""

    descriptor: int
    place: str
    inode: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Estate:
    """All that is passed on. `channel` is the successor's end of a pair of SOCK_SEQPACKET sockets, `ferry` a pair.

    `claims` are a file in memory and an eventfd.
    """

    channel: int
    listeners: list[PassedListener] = field(default_factory=list)
    inherited: list[Inherited] = field(default_factory=list)
    control: PassedListener | None = None
    manager: ServiceManager = field(default_factory=ServiceManager)
    helpers: list[PassedListener] = field(default_factory=list)
    ferry: list[int] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)

    def descriptors(self) -> list[int]:
        """Return the number of everything that has to stay open."""
        inherited = [one.descriptor for one in self.inherited]
        return [self.channel, *self._listening(), *inherited, *self.ferry, *self.claims]

    def close_listeners(self) -> None:
        """Close what was passed on once copies have been taken: the rest of it is not ours."""
        for descriptor in self._listening():
            os.close(descriptor)

    def _listening(self) -> list[int]:
        return [one.descriptor for one in (*self.listeners, self.control, *self.helpers) if one is not None]


def pass_of(listener: Listener) -> PassedListener:
    """Describe a listener for whoever takes it over."""
    return PassedListener(listener.socket.fileno(), listener.address.place, listener.inode)


def become_successor(estate: Estate) -> NoReturn:
    """Run the command that started this process anew, with the estate. For a forked child. Raise OSError.

    The kernel has put the interpreter that the command `prefork` names before it. The one that it names by now may be
    another one, with another prefork: the command may stand behind a link that was switched to the next release. A
    script of the user's own may have been given to an interpreter that it does not name, and is given to it again.
    """
    for descriptor in estate.descriptors():
        os.set_inheritable(descriptor, True)
    words = sys.orig_argv[1:]
    environment = {**os.environ, VARIABLE: json.dumps(asdict(estate))}
    if words and os.path.basename(words[0]) == "prefork":
        with suppress(OSError):  # nothing that the kernel can run by itself
            os.execve(words[0], words, environment)
    os.execve(sys.executable, [sys.executable, *words], environment)


def take_estate() -> Estate | None:
    """Return what a predecessor has left to this process, closed on exec from now on; None without one."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    said = json.loads(text)
    estate = Estate(
        channel=said["channel"],
        listeners=[_read_passed(one) for one in said["listeners"]],
        inherited=[Inherited(**one) for one in said["inherited"]],
        control=_read_passed(said["control"]) if said["control"] else None,
        manager=ServiceManager(**said["manager"]),
        helpers=[_read_passed(one) for one in said.get("helpers", ())],  # an older version has none
        ferry=said.get("ferry", []),  # nor this
        claims=said.get("claims", []),  # nor this
    )
    for descriptor in estate.descriptors():
        os.set_inheritable(descriptor, False)
    return estate


def _read_passed(said: dict[str, object]) -> PassedListener:
    descriptor, place, inode = said["descriptor"], said["place"], said["inode"]
    assert isinstance(descriptor, int)
    assert isinstance(place, str)
    return PassedListener(descriptor, place, (inode[0], inode[1]) if isinstance(inode, list) else None)
