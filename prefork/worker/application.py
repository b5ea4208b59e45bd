"""The application: loaded once, in the mold if that is safe, and built in each worker after the fork."""

from __future__ import annotations

import ast
import functools
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from prefork.errors import ApplicationError
from prefork.worker import guards
from prefork.worker.adoption import Adoption
from prefork.worker.assembly import FORKING, Assembly, is_pooled
from prefork.worker.hooks import call_on_worker_start
from prefork.worker.making import Maker
from prefork.worker.shares import groups_of
from prefork.worker.stages import put_stages_before
from prefork.worker.target import Target, add_to_path, call_target, find, parse_target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from prefork.config.settings import Settings
    from prefork.ipc.ferry import Ferry
    from prefork.serving.activity import Activity
    from prefork.serving.limits import Admission
    from prefork.system.sockets import Listener
    from prefork.worker.gate import Gate
    from prefork.worker.services import Service

log = logging.getLogger("prefork.worker")

Kind = Literal["server class", "server instance", "handler class", "factory"]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a server finds as `server.worker`."""

    slot: int
    generation: int
    pid: int


@dataclass(slots=True)
class Application:
    """What the target is. Loading has imported it; a factory has not been called yet."""

    target: Target
    found: object
    kind: Kind
    handler: object
    attributes: Mapping[str, object]
    adoption: Adoption
    warnings: list[str] = field(default_factory=list)

    def build(
        self,
        listeners: Sequence[Listener],
        settings: Settings,
        activity: Activity,
        worker: WorkerInfo,
        admission: Admission | None = None,
        tls_context: ssl.SSLContext | None = None,
        ferry: Ferry | None = None,
    ) -> list[Service]:
        """Make the servers and give each its listener. Raise ApplicationError. Runs in a worker, once."""
        guards.guard(listeners)
        if not self.adoption.has_listeners:
            self.adoption = Adoption(listeners)
        try:
            assembly = Assembly(settings, activity, admission, ferry, worker.slot)
            return self._build(listeners, assembly, settings, worker, tls_context)
        except BaseException:
            self.adoption.give_back()
            raise

    def _build(
        self,
        listeners: Sequence[Listener],
        assembly: Assembly,
        settings: Settings,
        worker: WorkerInfo,
        tls_context: ssl.SSLContext | None,
    ) -> list[Service]:
        maker = Maker(
            text=self.target.text,
            handler=self.handler,
            attributes=self.attributes,
            introduce=functools.partial(assembly.introduce, worker),
        )
        with self.adoption.active():
            servers = maker.make(self.kind, self.found, self.target, listeners)
        adopted = [(server, self.adoption.gate_of(server)) for server in servers]
        self._check_all_served(listeners, adopted)
        _check_can_share(listeners, adopted)
        for server, gate in adopted:
            put_stages_before(server, gate, listeners[gate.index], settings, tls_context)
            if self.kind != "server class" and isinstance(server, FORKING):
                log.warning(_forking_risk(self.target.text))
            call_on_worker_start(server)
        return assembly.assemble(adopted, self.adoption)

    def _check_all_served(self, listeners: Sequence[Listener], adopted: Sequence[tuple[Any, Gate]]) -> None:
        served = {gate.index for _, gate in adopted}
        idle = ", ".join(str(listener.address) for listener in listeners if listener.index not in served)
        if idle:
            many = f"{len(adopted)} server{'s' if len(adopted) > 1 else ''}"
            raise ApplicationError(f"nobody serves {idle}: {self.target.text} made {many}; drop that --bind")


def _check_can_share(listeners: Sequence[Listener], adopted: Sequence[tuple[Any, Gate]]) -> None:
    shared = {one.index: one.address.first.place for group in groups_of(listeners) for one in group}
    for server, gate in adopted:
        if gate.index in shared and not is_pooled(server):
            raise ApplicationError(
                f"{type(server).__qualname__} accepts with its own loop and cannot leave sockets to other workers, as "
                f"sockets=N of {shared[gate.index]} demands; serve its handler class instead, or drop that option"
            )


def load(settings: Settings, listeners: Sequence[Listener] = ()) -> Application:
    """Import the target. Raise ApplicationError. Runs in the mold or in the worker.

    A server made by the import adopts one of the listeners; without any (a mere check) it binds where it harms nobody.
    """
    guards.guard(listeners)
    add_to_path([os.getcwd(), *settings.pythonpath])
    target = parse_target(settings.target)
    adoption = Adoption(listeners)
    with adoption.active():
        found = find(target)
        handler = None if settings.handler is None else _find_value(settings.handler)
        attributes = {name: _read_value(value) for name, value in settings.server.items()}
    kind = kind_of(target, found)
    return Application(target, found, kind, handler, attributes, adoption, _warnings(target, found, kind, handler))


def kind_of(target: Target, found: object) -> Kind:
    """Tell the kinds of target apart. Raise ApplicationError if it is none of them."""
    made_of = found.func if isinstance(found, functools.partial) else found
    serves = callable(getattr(found, "serve_forever", None))
    if target.call is not None:
        return "factory"
    if isinstance(found, type) and serves:
        return "server class"
    if serves and callable(getattr(found, "fileno", None)):
        return "server instance"
    if isinstance(made_of, type) and not hasattr(made_of, "serve_forever"):
        return "handler class"
    if callable(found):
        return "factory"
    is_what = type(found).__name__
    raise ApplicationError(f"{target.text} is of type {is_what}: no handler class, server class, server or factory")


def _warnings(target: Target, found: object, kind: Kind, handler: object) -> list[str]:
    warnings = []
    if isinstance(found, type) and issubclass(found, FORKING):
        warnings.append(_forking_risk(target.text))
    if handler is not None and kind != "server class":
        warnings.append(f"handler is not used: {target.text} is a {kind}, and only a server class takes one")
    return warnings


def _forking_risk(text: str) -> str:
    return (
        f"{text} forks a child for each request: children inherit what the worker has open, are not seen on the "
        "scoreboard, and are killed at the end of a drain; a server with threads has none of these troubles"
    )


def _read_value(value: object) -> object:
    """Return the value of an attribute: what `@module:object` names, a literal, or else the text itself."""
    if not isinstance(value, str):
        return value
    if value.startswith("@"):
        return _find_value(value[1:])
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return value


def _find_value(text: str) -> object:
    target = parse_target(text)
    return call_target(target, find(target))
