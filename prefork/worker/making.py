"""How servers are made of each kind of target."""

from __future__ import annotations

import functools
import inspect
import socket
from dataclasses import dataclass

from prefork.errors import ApplicationError
from prefork.serving.threadpool import (
    ThreadPoolTCPServer,
    ThreadPoolUDPServer,
    ThreadPoolUnixDatagramServer,
    ThreadPoolUnixStreamServer,
)
from prefork.worker.blame import application_error
from prefork.worker.companions import companions_of
from prefork.worker.places import same_kind
from prefork.worker.target import call_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from prefork.system.sockets import Listener
    from prefork.worker.target import Target

_ADDRESS_NAMES = frozenset({"address", "addr", "bind", "bind_address", "server_address"})
_POOLED = {
    (False, socket.SOCK_STREAM): ThreadPoolTCPServer,
    (False, socket.SOCK_DGRAM): ThreadPoolUDPServer,
    (True, socket.SOCK_STREAM): ThreadPoolUnixStreamServer,
    (True, socket.SOCK_DGRAM): ThreadPoolUnixDatagramServer,
}


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the servers of one target. Runs while adoption is active."""

    text: str
    handler: object
    attributes: Mapping[str, object]
    introduce: Callable[[Any], None]

    def make(self, kind: str, found: Any, target: Target, listeners: Sequence[Listener]) -> list[Any]:
        """Return the servers. Raise ApplicationError."""
        match kind:
            case "handler class":
                return [self._make_pooled(found, listener) for listener in listeners]
            case "server class":
                return [self._make_of_class(found, listener) for listener in listeners]
            case "server instance":
                return [self._complete(found)]
        made = [
            server
            for result, served in self._call_factory(found, target, listeners)
            for server in self._servers_in(result, served)
        ]
        return list({id(server): server for server in made}.values())

    def _make_pooled(self, handler: Any, listener: Listener) -> Any:
        server_class = _POOLED[listener.socket.family == socket.AF_UNIX, listener.socket.type]
        companions = companions_of(handler, listener.socket)
        return self._construct(server_class, (_address_of(listener), handler), companions)

    def _make_of_class(self, server_class: Any, listener: Listener) -> Any:
        family, type_ = listener.socket.family, listener.socket.type
        # A class that does not say what it is will show it when it binds.
        own_family = getattr(server_class, "address_family", family)
        own_type = getattr(server_class, "socket_type", type_)
        if not same_kind(own_family, own_type, family, type_):
            what = _describe(own_family, own_type)
            raise ApplicationError(f"{self.text} cannot serve {listener.address}: it is a server of {what}")
        before = {} if own_family == family else {"address_family": family}
        return self._construct(
            server_class, find_arguments(self.text, server_class, _address_of(listener), self.handler), before
        )

    def _construct(self, server_class: Any, arguments: tuple[Any, ...], before: Mapping[str, object]) -> Any:
        """Make the server in two steps, so that it has its attributes before it binds; its constructor comes last."""
        try:
            server = server_class.__new__(server_class, *arguments)
            self._set(server, before)
            self._complete(server)
            type(server).__init__(server, *arguments)
        except ApplicationError:
            raise
        except (Exception, SystemExit) as error:
            raise application_error(f"building {self.text} failed", error) from error
        self._set(server, self.attributes)  # the constructor may have set its defaults
        return server

    def _complete(self, server: Any) -> Any:
        self.introduce(server)
        self._set(server, self.attributes)
        return server

    def _set(self, server: Any, attributes: Mapping[str, object]) -> None:
        for name, value in attributes.items():
            try:
                setattr(server, name, value)
            except Exception as error:
                raise application_error(f"cannot set {name} of {type(server).__qualname__}", error) from error

    def _call_factory(
        self, factory: Any, target: Target, listeners: Sequence[Listener]
    ) -> Iterator[tuple[Any, Sequence[Listener]]]:
        """Yield what the factory returns, and the listeners that it was called for."""
        signature = _signature(factory) if target.call is None else None
        if signature is None or not _wants_address(signature):
            yield self._call(functools.partial(call_target, target, factory) if target.call else factory, ()), listeners
            return
        by_address: dict[Any, list[Listener]] = {}
        for listener in listeners:  # UDP and TCP on one address are one call, several sockets of one place several
            by_address.setdefault((_address_of(listener), listener.address.member), []).append(listener)
        for (address, _), its_listeners in by_address.items():
            yield self._call(factory, (address,)), its_listeners

    def _call(self, factory: Any, arguments: tuple[Any, ...]) -> Any:
        signature = _signature(factory)
        if signature is not None and not _fits(signature, *arguments):
            raise ApplicationError(
                f"{self.text}{signature} cannot be called: a factory takes no argument or the bind address "
                "(a handler has to be a class)"
            )
        try:
            return factory(*arguments)
        except ApplicationError:
            raise
        except (Exception, SystemExit) as error:
            raise application_error(f"calling {self.text} failed", error) from error

    def _servers_in(self, result: Any, listeners: Sequence[Listener]) -> Iterator[Any]:
        """Take apart what a factory returned: a server, a handler class, or several servers."""
        plain = result.func if isinstance(result, functools.partial) else result
        if isinstance(plain, type) and not hasattr(plain, "serve_forever"):
            yield from (self._make_pooled(result, listener) for listener in listeners)
        elif isinstance(result, type):
            yield from (self._make_of_class(result, listener) for listener in listeners)
        elif hasattr(result, "serve_forever") and hasattr(result, "fileno"):
            yield self._complete(result)
        else:
            yield from self._each_server_in(result, listeners)

    def _each_server_in(self, results: Any, listeners: Sequence[Listener]) -> Iterator[Any]:
        several = _as_list(results)
        if not several:
            what = "nothing" if results is None or several == [] else f"a {type(results).__name__}"
            raise ApplicationError(
                f"{self.text} returned {what}: a factory returns a server, several, or a handler class"
            )
        for result in several:
            yield from self._servers_in(result, listeners)


def find_arguments(text: str, server_class: Any, address: Any, given: object) -> tuple[Any, ...]:
    """Return what the class is called with: the usual address and handler, or less if it needs less.

    `text` names it, `given` is the handler that was given, or None. Raise ApplicationError if nothing fits.
    """
    handler = given or getattr(server_class, "RequestHandlerClass", None)
    signature = _signature(server_class)
    if signature is None or (handler is not None and _fits(signature, address, handler)):
        return address, handler
    if given is None and _wants_address(signature) and _fits(signature, address):
        return (address,)
    if given is None and not _wants_address(signature) and _fits(signature):
        return ()
    if given is None and _fits(signature, address, None) and "port" not in signature.parameters:
        raise ApplicationError(f"{text} needs a handler: give --handler MODULE:NAME")
    usual = "(server_address)" if given is None else "(server_address, RequestHandlerClass)"
    raise ApplicationError(f"{text}{signature} cannot be called with {usual}: write a factory that calls it")


def _as_list(results: Iterable[Any]) -> list[Any] | None:
    if isinstance(results, (str, bytes, dict)):
        return None
    try:
        return list(results)
    except TypeError:
        return None


def _address_of(listener: Listener) -> Any:
    """Return the address as servers expect it: of IPv6 only host and port, which they unpack."""
    address = listener.socket.getsockname()
    return address[:2] if isinstance(address, tuple) else address


def _signature(called: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(called)
    except (TypeError, ValueError):
        return None  # of a built-in that does not tell


def _fits(signature: inspect.Signature, *arguments: Any) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _wants_address(signature: inspect.Signature) -> bool:
    """Say whether the first parameter is the address: if it must be given, or is named so."""
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return False
    return first.default is first.empty or first.name in _ADDRESS_NAMES


def _describe(family: int, type_: int) -> str:
    if family == socket.AF_UNIX:
        return "Unix datagrams" if type_ == socket.SOCK_DGRAM else "Unix streams"
    return "UDP" if type_ == socket.SOCK_DGRAM else "TCP"
