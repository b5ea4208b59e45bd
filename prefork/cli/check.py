"""`prefork check`: everything that can be known about a target without serving it."""

import os
import sys
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from prefork.cli.output import complain, plain, say, say_json
from prefork.cli.setting_options import SettingsCommand, load_from
from prefork.cli.worst_case import (
    WorstCase,
    find_own_loop,
    find_shortages,
    find_worst_case,
    find_worst_case_of_own_loop,
    render_worst_case,
)
from prefork.config.load import Loaded
from prefork.errors import ApplicationError, PreforkError

if TYPE_CHECKING:
    from prefork.config.settings import Settings
    from prefork.worker.application import Application

_OWN_LOOP = (
    "--threads: it takes as many connections at a time as its own code does",
    "on_drain of its handlers (on_drain of the server itself is called)",
    "TLS and the PROXY protocol: it does not start on a listener for which they are configured",
    "server.tag() for each connection: all of a worker share one",
    "--limit-connections, --limit-per-peer and --idle-timeout: it accepts with its own code",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found out."""

    target: str
    kind: str
    served_by: str
    listeners: list[str]
    workers: int
    warnings: list[str]
    unavailable: list[str]
    worst_case: WorstCase | None


@click.command("check", cls=SettingsCommand, short_help="Load the target and the settings, and say what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def check_command(context: click.Context, /, as_json: bool, **_: object) -> int:
    """Check the settings and import TARGET as a worker would, without binding or serving anything.

    Says what the target is, where it would listen, and what it cannot use. Exits with 2 if the settings are wrong and
    with 3 if the target cannot be loaded.
    """
    try:
        findings = check(load_from(context))
    except PreforkError as error:
        complain(error)
        if as_json:
            say_json({"ok": False, "error": str(error), "detail": error.detail})
        return _exit_code_despite_threads(error.exit_code)
    if as_json:
        say_json(asdict(findings))
    else:
        for line in render_findings(findings):
            say(plain(line))
    return _exit_code_despite_threads(0)


def check(loaded: Loaded) -> Findings:
    """Import the target in this process. Raise ApplicationError."""
    from prefork.system import environment
    from prefork.system.privileges import become, find_identity
    from prefork.worker import hazards
    from prefork.worker.application import load
    from prefork.worker.certificates import load_tls
    from prefork.worker.making import find_arguments

    doubts = load_tls(loaded.settings).warnings if loaded.settings.tls_cert else []  # read by root, as in the mold
    if os.geteuid() == 0:  # the application's code runs as nobody else in a worker
        become(find_identity(loaded.settings.user, loaded.settings.group))
    environment.set_variables(loaded.settings.env)
    environment.change_directory(loaded.settings.chdir)
    before = hazards.open_descriptors()
    application = load(loaded.settings)
    adopting = [application.found.fileno()] if application.kind == "server instance" else []  # type: ignore[attr-defined]  # what makes it that kind
    found = [] if loaded.settings.preload == "never" else hazards.find_hazards(before, adopting)
    if application.kind == "server class":
        anywhere = ("127.0.0.1", 0)  # only their number matters
        find_arguments(application.target.text, application.found, anywhere, application.handler)
    _refuse_if_stages_are_missing(loaded, application)
    findings = describe(loaded, application, found)
    return replace(findings, warnings=[*doubts, *findings.warnings])


def describe(loaded: Loaded, application: "Application", hazards: list[str]) -> Findings:
    """Say what the target is and what follows from that."""
    settings, pooled = loaded.settings, _is_pooled(application)
    worst = _find_worst_case(settings, application, pooled)
    warnings = [*loaded.warnings, *application.warnings, *(find_shortages(worst) if worst else ())]
    if hazards:
        consequence = "each worker imports it by itself" if settings.preload == "auto" else "workers are forked anyway"
        warnings.append(f"the import leaves what cannot be forked, {', '.join(hazards)}; {consequence}")
    return Findings(
        target=settings.target,
        kind=application.kind,
        served_by={True: "prefork's pool of threads", False: "its own loop", None: "what it returns"}[pooled],
        listeners=[str(address) for address in settings.bind],
        workers=settings.workers,
        warnings=warnings,
        unavailable=list(_OWN_LOOP) if pooled is False else [],
        worst_case=worst,
    )


def _refuse_if_stages_are_missing(loaded: Loaded, application: "Application") -> None:
    from prefork.worker.stages import wanted_stages, without_stages

    for address in loaded.settings.bind if _is_pooled(application) is False else ():
        if stages := wanted_stages(address, loaded.settings):
            raise ApplicationError(without_stages(loaded.settings.target, address, stages))


def render_findings(findings: Findings) -> list[str]:
    """Write the findings as lines."""
    article = "an" if findings.kind[0] in "aeiou" else "a"
    lines = [
        f"{findings.target} is {article} {findings.kind}, served by {findings.served_by}",
        f"workers: {findings.workers}",
    ]
    lines += [f"listener: {listener}" for listener in findings.listeners]
    lines += render_worst_case(findings.worst_case) if findings.worst_case else []
    lines += [f"warning: {warning}" for warning in findings.warnings]
    return lines + [f"not available: {what}" for what in findings.unavailable]


def _is_pooled(application: "Application") -> bool | None:
    """Tell whether our pool serves it; None for a factory, which only a worker calls."""
    from prefork.serving.threadpool import ThreadPoolMixIn

    if application.kind in ("handler class", "factory"):
        return True if application.kind == "handler class" else None
    found = application.found
    server_class = found if isinstance(found, type) else type(found)
    return issubclass(server_class, ThreadPoolMixIn) and server_class.serve_forever is ThreadPoolMixIn.serve_forever


def _find_worst_case(settings: "Settings", application: "Application", pooled: bool | None) -> WorstCase | None:
    """Find it as far as the target tells; of a factory only a worker learns what it returns."""
    if pooled is None:
        return None
    if pooled:
        return find_worst_case(settings, _can_be_parked(application))
    servers = len(settings.bind) if application.kind == "server class" else 1
    return find_worst_case_of_own_loop(settings, find_own_loop(application.found), servers)


def _can_be_parked(application: "Application") -> bool:
    """Tell whether the connections of what our pool serves hold no thread while they are idle."""
    from prefork.serving.threadpool import conversation_kind

    found = application.found
    handler = found if application.kind == "handler class" else None
    handler = handler or application.handler or getattr(found, "RequestHandlerClass", None)
    return conversation_kind(handler) is not None


def _exit_code_despite_threads(code: int) -> int:
    """Python would wait for threads that the import has started, perhaps for ever."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
