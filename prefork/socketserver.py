"""A drop-in for the standard library's `socketserver`: `import prefork.socketserver as socketserver`.

The same names, attributes, hooks and order of calls; the servers live in `prefork.serving`. The module can be patched
like the original: what is assigned to one of its globals, say `socketserver._ServerSelector` or `socketserver.socket`,
is passed on to the modules that use it.
"""

# Imports "as themselves" and the private names are here for code outside that uses or replaces them.
import os
import selectors as selectors
import socket
import sys
import threading as threading
import types as _types
from io import BufferedIOBase as BufferedIOBase
from time import monotonic as time  # noqa: F401  see above

from prefork.serving import base as _base
from prefork.serving import datagram as _datagram
from prefork.serving import handlers as _handlers
from prefork.serving import mixins as _mixins
from prefork.serving import stream as _stream
from prefork.serving.base import BaseServer
from prefork.serving.base import _ServerSelector as _ServerSelector
from prefork.serving.datagram import UDPServer
from prefork.serving.handlers import BaseRequestHandler, DatagramRequestHandler, StreamRequestHandler
from prefork.serving.handlers import _SocketWriter as _SocketWriter
from prefork.serving.mixins import ThreadingMixIn
from prefork.serving.mixins import _NoThreads as _NoThreads
from prefork.serving.mixins import _Threads as _Threads
from prefork.serving.stream import TCPServer

__version__ = "0.4"

__all__ = [
    "BaseRequestHandler",
    "BaseServer",
    "DatagramRequestHandler",
    "StreamRequestHandler",
    "TCPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "UDPServer",
]


class ThreadingTCPServer(ThreadingMixIn, TCPServer):
    pass


class ThreadingUDPServer(ThreadingMixIn, UDPServer):
    pass


if hasattr(os, "fork"):
    from prefork.serving.mixins import ForkingMixIn

    __all__ += ["ForkingMixIn", "ForkingTCPServer", "ForkingUDPServer"]

    class ForkingTCPServer(ForkingMixIn, TCPServer):
        pass

    class ForkingUDPServer(ForkingMixIn, UDPServer):
        pass


if hasattr(socket, "AF_UNIX"):
    from prefork.serving.datagram import UnixDatagramServer
    from prefork.serving.stream import UnixStreamServer

    __all__ += ["ThreadingUnixDatagramServer", "ThreadingUnixStreamServer", "UnixDatagramServer", "UnixStreamServer"]

    class ThreadingUnixStreamServer(ThreadingMixIn, UnixStreamServer):
        pass

    class ThreadingUnixDatagramServer(ThreadingMixIn, UnixDatagramServer):
        pass


if hasattr(os, "fork") and hasattr(socket, "AF_UNIX"):
    __all__ += ["ForkingUnixDatagramServer", "ForkingUnixStreamServer"]

    class ForkingUnixStreamServer(ForkingMixIn, UnixStreamServer):
        pass

    class ForkingUnixDatagramServer(ForkingMixIn, UnixDatagramServer):
        pass


class _Patchable(_types.ModuleType):
    """This module's own type: passes assignments on to the modules that use the name."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name.startswith("__"):
            return
        for module in (_base, _stream, _datagram, _mixins, _handlers):
            if name in vars(module):
                setattr(module, name, value)


sys.modules[__name__].__class__ = _Patchable
