"""`prefork status` and `prefork list`: what the servers are doing, for people at a terminal of 80 columns."""

import time

import click

from prefork.cli.choice import Choice, ask_all
from prefork.cli.client import PATIENCE
from prefork.cli.output import plain, remark, say, say_json, table
from prefork.cli.replies import CertificateReply, DeathReply, ReloadReply, StatusReply, WorkerReply, read_status
from prefork.cli.server_options import json_option, server_options

_SILENT_AFTER = 5.0  # a worker beats twice a second
_MOST_REQUESTS = 10
_MOST_DEATHS = 5


@click.command("status", short_help="Show a running server and its workers.")
@server_options
def status_command(choice: Choice, as_json: bool) -> int:
    """Show a running server: its state, listeners and workers, and how the last reload ended."""
    with choice.connect() as connection:
        result = connection.ask({"command": "status"})
    if as_json:
        say_json(result)
    else:
        for line in render_status(read_status(result)):
            say(plain(line))
    return 0


@click.command("list", short_help="List the running servers.")
@json_option
def list_command(as_json: bool) -> int:
    """List the running servers of this user; for root, of every user.

    A server with a control socket of its own (--control PATH) is not listed.
    """
    found = ask_all(PATIENCE)
    if as_json:
        say_json([status if status else {"pid": place.pid, "state": "does not answer"} for place, status in found])
        return 0
    replies = [read_status(status) if status else StatusReply(pid=place.pid, name="?") for place, status in found]
    if not replies:
        remark("no server is running")
    for line in render_list(replies) if replies else []:
        say(plain(line))
    return 0


def render_status(status: StatusReply) -> list[str]:
    """Write the status as lines."""
    state = status.state if status.ready or status.state != "serving" else "serving, not ready"
    if status.draining and status.state != "stopping":
        state = f"{status.state}, drained (not ready)"
    if status.candidate is not None:
        state += f" to generation {status.candidate}"
    made_by = f"prefork {status.version}, Python {status.python}"
    lines = [
        f"{status.name}: {state}   pid {status.pid}   generation {status.generation}   up {span(status.uptime)}",
        f"target    {status.target}   ({made_by})",
    ]
    for label, listener in zip(["listens"] + [""] * len(status.listeners), status.listeners, strict=False):
        asked = "" if listener.bind in ("", listener.address) else f"   ({listener.bind})"
        lines.append(f"{label:<9} {listener.address}{asked}")
    lines += [f"shows     {_certificate(certificate)}" for certificate in status.certificates]
    lines.append(f"totals    {_totals(status.totals)}")
    if status.last_reload is not None:
        lines.append(f"reload    {_reload(status.last_reload)}")
    return [*lines, "", *_worker_table(status), *_request_table(status), *_death_table(status)]


def render_list(replies: list[StatusReply]) -> list[str]:
    """Write one line for each server; one with several listeners has them below each other."""
    rows = [["NAME", "PID", "STATE", "WORKERS", "LISTENER", "TARGET"]]
    for reply in replies:
        addresses = [listener.address for listener in reply.listeners] or [""]
        serving = sum(worker.state == "serving" for worker in reply.workers)
        workers = f"{serving}/{reply.wanted}" if reply.state else ""
        rows.append([reply.name, str(reply.pid), reply.state or "no answer", workers, addresses[0], reply.target])
        rows += [["", "", "", "", address, ""] for address in addresses[1:]]
    return table(rows, "<><><<")


def _worker_table(status: StatusReply) -> list[str]:
    if not status.workers:
        return [f"no workers ({status.wanted} wanted)"]
    head = ["WORKER", "GEN", "PID", "STATE", "AGE", "BUSY", "OPEN", "ACCEPTED", "FAILED", "MEMORY"]
    return table([head, *(_worker_row(worker) for worker in status.workers)], ">>><>>>>>>", gap=" ")


def _request_table(status: StatusReply) -> list[str]:
    """Write what is being served longest; all of it is in the JSON."""
    serving = [(request, worker.slot) for worker in status.workers for request in worker.requests]
    if not serving:
        return []
    longest = sorted(serving, key=lambda each: -each[0].seconds)[:_MOST_REQUESTS]
    rows = [[str(slot), span(one.seconds), one.peer, one.tag] for one, slot in longest]
    others = sum(worker.threads_busy for worker in status.workers) - len(longest)
    more = [f"and {others} more"] if others > 0 else []
    return ["", *table([["WORKER", "SERVING", "PEER", "TAG"], *rows], ">><<"), *more]


def _death_table(status: StatusReply) -> list[str]:
    """Write the latest deaths, and whom they took along, the last one first; all of it is in the JSON and the log."""
    if not status.deaths:
        return []
    latest = list(reversed(status.deaths))[:_MOST_DEATHS]
    head = ["DIED", "GEN", "AGO", "ACCEPTED", "MEM", "LOST", "HOW"]
    rows = [_death_row(one) for one in latest]
    lines = ["", *table([head, *rows], ">>>>>><", gap=" ")]
    if latest[0].oom_kills:
        lines.append(f"OOM kills in the control group by then: {latest[0].oom_kills}")
    named = [[str(one.slot), span(lost.seconds), lost.peer, lost.tag] for one in latest for lost in one.requests]
    if named:
        lines += ["", *table([["DIED", "SERVED", "PEER", "TAG"], *named[:_MOST_REQUESTS]], ">><<")]
    if len(named) > _MOST_REQUESTS:
        lines.append(f"and {len(named) - _MOST_REQUESTS} more")
    return lines


def _death_row(death: DeathReply) -> list[str]:
    return [
        str(death.slot),
        str(death.generation),
        span(death.ago),
        count(death.accepted),
        _mebibytes(death.rss),
        count(len(death.requests) + death.parked + death.others),
        _cut(death.how),
    ]


def _cut(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _worker_row(worker: WorkerReply) -> list[str]:
    silent = worker.state == "serving" and worker.beat_age is not None and worker.beat_age > _SILENT_AFTER
    return [
        str(worker.slot),
        str(worker.generation),
        "" if worker.pid is None else str(worker.pid),
        f"silent {span(worker.beat_age or 0)}" if silent else worker.state,
        span(worker.age),
        f"{worker.threads_busy}/{worker.threads}",
        count(worker.open),
        count(worker.accepted),
        count(worker.failed),
        _mebibytes(worker.rss),
    ]


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1024 / 1024:.0f}M"


def _certificate(certificate: CertificateReply) -> str:
    until = time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after))
    names = ", ".join(certificate.names[:3]) + (", ..." if len(certificate.names) > 3 else "")
    return f"certificate of {names or certificate.file}, good until {until}"


def _totals(totals: dict[str, int]) -> str:
    always = ("accepted", "failed", "restarts", "reloads", "reloads_failed")
    order = (*always[:2], "refused", *always[2:], "reloads_refused", "reloads_superseded", "suspects")
    told = [name for name in order if name in totals and (totals[name] or name in always)]
    return ", ".join(f"{name.replace('_', ' ')} {count(totals[name])}" for name in told)


def _reload(reload: ReloadReply) -> str:
    outcome = f"generation {reload.generation} " + ("serves" if reload.ok else "was given up")
    reason = f": {reload.reason}" if reload.reason and not reload.ok else ""
    return f"{outcome}, {span(reload.ago)} ago{reason}"


def span(seconds: float) -> str:
    """Two units are enough: 42s, 3m12s, 5h07m, 12d03h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def count(number: int) -> str:
    if number < 1_000_000:
        return str(number)
    return f"{number / 1e6:.1f}M" if number < 1_000_000_000 else f"{number / 1e9:.1f}G"
