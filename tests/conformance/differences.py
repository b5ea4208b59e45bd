"""Where our module differs from the standard one on purpose: the scenario, the reason, and both traces."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Steps = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Difference:
    reason: str
    ours: Steps
    standard: Steps
    # True for the versions of Python whose standard module does as ours.
    gone: Callable[[tuple[int, ...]], bool] = lambda version: False

    @property
    def applies(self) -> bool:
        return not self.gone(sys.version_info[:3])


DIFFERENCES: dict[str, Difference] = {}


COMMON_NAMES = (
    "BaseRequestHandler",
    "BaseServer",
    "DatagramRequestHandler",
    "ForkingMixIn",
    "ForkingTCPServer",
    "ForkingUDPServer",
    "StreamRequestHandler",
    "TCPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "ThreadingUnixDatagramServer",
    "ThreadingUnixStreamServer",
    "UDPServer",
    "UnixDatagramServer",
    "UnixStreamServer",
)
NEW_NAMES = {
    "ForkingUnixDatagramServer": ("ForkingMixIn", "UnixDatagramServer", "UDPServer", "TCPServer", "BaseServer"),
    "ForkingUnixStreamServer": ("ForkingMixIn", "UnixStreamServer", "TCPServer", "BaseServer"),
}


def since_3_12(version: tuple[int, ...]) -> bool:
    return version >= (3, 12)


DIFFERENCES["the_module_exports_the_documented_names"] = Difference(
    "the forking Unix servers came with 3.12; here they are there on every version",
    ours=[tuple(sorted([*COMMON_NAMES, *NEW_NAMES]))],
    standard=[COMMON_NAMES],
    gone=since_3_12,
)
for name, bases in NEW_NAMES.items():
    DIFFERENCES[f"a_forking_unix_class_has_the_bases[{name}]"] = Difference(
        "the forking Unix servers came with 3.12; here they are there on every version",
        ours=[(name, *bases, "object")],
        standard=[("object",)],
        gone=since_3_12,
    )


def since_3_12_9_and_3_13_2(version: tuple[int, ...]) -> bool:
    return version >= (3, 13, 2) or (3, 12, 9) <= version < (3, 13)


PORT_OPTION = ("request.setsockopt", socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
for name, kind, listen in (
    ("UnixStreamServer", socket.SOCK_STREAM, [("request.listen", 5)]),
    ("UnixDatagramServer", socket.SOCK_DGRAM, []),
):
    made = ("socket", socket.AF_UNIX, kind)
    DIFFERENCES[f"a_unix_server_may_reuse_its_port[{name}]"] = Difference(
        "Linux 6.12.9 and later refuse the option on Unix sockets; newer standard modules leave it out, too",
        ours=[made, ("request.bind", "an address"), *listen],
        standard=[made, PORT_OPTION, ("request.bind", "an address"), *listen],
        gone=since_3_12_9_and_3_13_2,
    )


SERVED = [("finish_request", "Request", "str"), ("handler",), ("close_request", "Request")]
TURN = ("service_actions",)
END = ("selector closed",)

DIFFERENCES["the_loop_waits_for_its_listener_and_a_wake_up"] = Difference(
    "shutdown() takes effect at once, not at the next poll",
    ours=[("TCPServer", 1), ("Wakeup", 1)],
    standard=[("TCPServer", 1)],
)
DIFFERENCES["shutdown_may_be_called_by_the_serving_thread"] = Difference(
    "the standard module waits for itself for ever, so nobody can depend on that",
    ours=[("registered", 1), ("select", 0.5), SERVED[0], SERVED[2], TURN, END],
    standard=[
        ("registered", 1),
        ("select", 0.5),
        SERVED[0],
        ("RuntimeError('waits for itself for ever')",),
        SERVED[2],
        TURN,
        END,
    ],
)


def cannot_accept(error: str) -> tuple[str, str]:
    return "WARNING", f"cannot accept on 'an address': {error}; the listener rests, then tries again"


RECOVERED = ("WARNING", "accepting on 'an address' again: the shortage is over")
IN, OUT, WAIT = ("registered", 1), ("unregistered",), ("select", 0.5)
SPINNING = "the standard module tries again at once and for ever, says nothing and uses a whole CPU"

DIFFERENCES["a_listener_rests_while_descriptors_are_short"] = Difference(
    SPINNING,
    ours=[
        *[IN, WAIT, cannot_accept("[Errno 24] Too many open files"), TURN],
        *[OUT, ("select", 0.1), TURN],
        *[IN, WAIT, TURN],
        *[OUT, ("select", 0.2), TURN],
        *[IN, WAIT, RECOVERED, *SERVED, TURN],
        *[WAIT, END],
    ],
    standard=[IN, *[WAIT, TURN] * 4, WAIT, *SERVED, TURN, WAIT, END],
)
for name, number in (("EMFILE", 24), ("ENFILE", 23), ("ENOBUFS", 105), ("ENOMEM", 12)):
    DIFFERENCES[f"a_failure_that_may_make_the_listener_rest[{name}]"] = Difference(
        SPINNING,
        ours=[IN, WAIT, cannot_accept(f"[Errno {number}] a reason"), TURN, OUT, ("select", 0.1), END],
        standard=[IN, WAIT, TURN, WAIT, END],
    )
DIFFERENCES["handle_request_leaves_a_resting_listener_out"] = Difference(
    SPINNING + " when handle_request() is called in a loop",
    ours=[
        *[IN, ("select", 10), cannot_accept("[Errno 24] Too many open files"), END],
        *[IN, OUT, ("select", 0.1), IN, ("select", 9.75), RECOVERED, *SERVED, END],
    ],
    standard=[IN, ("select", 10), END, IN, ("select", 10), ("select", 9.75), *SERVED, END],
)


DIFFERENCES["threads_that_have_ended_are_forgotten"] = Difference(
    "a thread is forgotten at its end; the standard module looks through all of them at each request",
    ours=[("remembered", 0)],
    standard=[("remembered", 1)],
)
DIFFERENCES["remembered_threads_are_a_list"] = Difference(
    "threads that are forgotten by themselves cannot be in a list; they can be counted and iterated",
    ours=[(False,)],
    standard=[(True,)],
)
DIFFERENCES["children_above_the_limit_are_waited_for"] = Difference(
    "the standard module blocks its loop and may take the exit status of children that are not its own; here the "
    "listener is left out of the wait until one of its own has ended",
    ours=[("collect_children",), ("waitpid", 11, "looking"), (11,)],
    standard=[("collect_children",), ("waitpid", -1, "blocking"), ()],
)
