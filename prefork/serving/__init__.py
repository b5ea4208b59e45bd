"""The serving stack: socketserver's servers and handlers, and servers with a pool of threads.

Imported on first use: the drop-in module `prefork.socketserver` needs only a part of it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from prefork.serving.messages import MessageRequestHandler
    from prefork.serving.threadpool import (
        ThreadPoolMixIn,
        ThreadPoolTCPServer,
        ThreadPoolUDPServer,
        ThreadPoolUnixDatagramServer,
        ThreadPoolUnixStreamServer,
    )

__all__ = [
    "MessageRequestHandler",
    "ThreadPoolMixIn",
    "ThreadPoolTCPServer",
    "ThreadPoolUDPServer",
    "ThreadPoolUnixDatagramServer",
    "ThreadPoolUnixStreamServer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "MessageRequestHandler":
        from prefork.serving import messages

        return getattr(messages, name)
    from prefork.serving import threadpool

    return getattr(threadpool, name)
