"""The metrics: the status as Prometheus reads it, in its own text or in OpenMetrics.

Each family is declared once, with what it means and how it is taken from the status; the table in docs/operating.md
follows (`python -m prefork.admin.metrics --write`).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Format:
    """One of the two texts."""

    content_type: str
    open: bool
    """Whether it is OpenMetrics."""


PLAIN = Format("text/plain; version=0.0.4; charset=utf-8", open=False)
OPENMETRICS = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", open=True)


@dataclass(frozen=True, slots=True)
class View:
    """What there is to be shown: the status, the CPU time of its workers by their pid, and how old the status is."""

    status: Mapping[str, Any]
    cpu: Mapping[int, float | None]
    age: float


Row = tuple[Sequence[object], Any]
"""The values of the labels, then the value; of a histogram, a mapping with `durations` and `seconds`."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, without rows where there is nothing to say."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    rows: Callable[[View], Iterable[Row]]


def _one(read: Callable[[View], Any]) -> Callable[[View], Iterable[Row]]:
    return lambda view: [((), read(view))]


def _of_connections(field: str) -> Callable[[View], Iterable[Row]]:
    return lambda view: [((one["listener"],), one[field]) for one in view.status["connections"]]


def _of_listeners(field: str, datagrams: bool) -> Callable[[View], Iterable[Row]]:
    def rows(view: View) -> Iterable[Row]:
        counted: Counter[str] = Counter()  # several sockets of a socket unit may share an address (ReusePort=)
        for one in view.status["listeners"]:
            if one["address"].startswith(("udp", "unixgram")) == datagrams and one[field] is not None:
                counted[one["address"]] += one[field]
        return [((address,), value) for address, value in counted.items()]

    return rows


def _of_totals(field: str) -> Callable[[View], Iterable[Row]]:
    return lambda view: [((), view.status["totals"][field])] if field in view.status["totals"] else []


def _cpu(view: View) -> Iterator[Row]:
    for worker in view.status["workers"]:
        if (used := view.cpu.get(worker["pid"])) is not None:
            yield (worker["slot"], worker["generation"]), used


def _of_workers(field: str) -> Callable[[View], Iterable[Row]]:
    def rows(view: View) -> Iterator[Row]:
        for worker in view.status["workers"]:
            if worker.get(field) is not None:
                yield (worker["slot"], worker["generation"]), worker[field]

    return rows


def _workers(view: View) -> Iterable[Row]:
    counted = Counter((worker["state"], worker["generation"]) for worker in view.status["workers"])
    return sorted(counted.items(), key=lambda row: (row[0][1], row[0][0]))


def _threads(view: View) -> Iterable[Row]:
    workers = [worker for worker in view.status["workers"] if "threads" in worker]
    serving = [worker for worker in workers if worker["state"] == "serving"]
    yield ("busy",), sum(worker["threads_busy"] for worker in workers)
    yield ("free",), sum(worker["threads"] - worker["threads_busy"] for worker in serving)


def _parked(view: View) -> Iterable[Row]:
    parked = [worker["parked"] for worker in view.status["workers"] if "parked" in worker]
    return [((), sum(parked))] if parked else []


def _certificates(view: View) -> Iterable[Row]:
    for certificate in view.status.get("certificates", ()):
        yield (",".join(certificate["names"]), certificate["file"]), certificate["not_after"]


_WORKER = ("worker", "generation")
# A counter that appears with its first event hides it: from nothing to one is no increase.
_FORESEEN = dict.fromkeys(
    (
        "cannot start",
        "drain timeout",
        "exit status 1",
        "heartbeat timeout",
        "killed by SIGABRT",
        "killed by SIGKILL of the kernel's OOM killer",
        "killed by SIGKILL that we did not send",
        "killed by SIGSEGV",
        "stopped accepting",
        "wedged",
    ),
    0,
)

FAMILIES = (
    Family(
        "prefork_build_info",
        "gauge",
        "Always 1; the versions are its labels.",
        ("version", "python"),
        lambda view: [((view.status["version"], view.status["python"]), 1)],
    ),
    Family(
        "prefork_uptime_seconds", "gauge", "Since the master started.", (), _one(lambda view: view.status["uptime"])
    ),
    Family(
        "prefork_ready",
        "gauge",
        "1 while new connections are welcome, as /readyz says.",
        (),
        _one(lambda view: view.status["ready"]),
    ),
    Family(
        "prefork_generation",
        "gauge",
        "The number of the generation that serves.",
        (),
        _one(lambda view: view.status["generation"]),
    ),
    Family(
        "prefork_workers_wanted",
        "gauge",
        "Workers that there should be.",
        (),
        _one(lambda view: view.status["wanted"]),
    ),
    Family(
        "prefork_workers",
        "gauge",
        "Workers that there are: starting, serving, draining or killed.",
        ("state", "generation"),
        _workers,
    ),
    Family(
        "prefork_threads",
        "gauge",
        "Threads that serve a connection (busy), and how many more connections serving workers can take (free).",
        ("state",),
        _threads,
    ),
    Family(
        "prefork_connections_accepted_total",
        "counter",
        "Connections, or datagrams, that workers took from a listener.",
        ("listener",),
        _of_connections("accepted"),
    ),
    Family(
        "prefork_connections_served_total",
        "counter",
        "Those whose handler returned.",
        ("listener",),
        _of_connections("served"),
    ),
    Family(
        "prefork_connections_failed_total",
        "counter",
        "Those whose handler raised.",
        ("listener",),
        _of_connections("failed"),
    ),
    Family(
        "prefork_connections_lost_total",
        "counter",
        "Those that were open in a worker that died, or was killed.",
        ("listener",),
        _of_connections("lost"),
    ),
    Family(
        "prefork_connections_refused_total",
        "counter",
        "Those that were closed without being served: over a limit, unwanted, or with a wrong header or handshake.",
        ("listener",),
        _of_connections("refused"),
    ),
    Family(
        "prefork_connections_handed_over_total",
        "counter",
        "Parked ones that a leaving worker handed over to another one.",
        ("listener",),
        _of_connections("handed_over"),
    ),
    Family("prefork_connections_open", "gauge", "Those that have not ended.", ("listener",), _of_connections("open")),
    Family(
        "prefork_connections_parked",
        "gauge",
        "Open ones that are idle and hold no thread.",
        (),
        _parked,
    ),
    Family(
        "prefork_request_duration_seconds",
        "histogram",
        "From accept to close; of connections that are served message by message, each message.",
        ("listener",),
        lambda view: [((one["listener"],), one) for one in view.status["connections"]],
    ),
    Family(
        "prefork_accept_queue_length",
        "gauge",
        "Connections that wait to be accepted (TCP; Unix where the kernel tells).",
        ("listener",),
        _of_listeners("waiting", datagrams=False),
    ),
    Family(
        "prefork_accept_queue_limit",
        "gauge",
        "How many may wait (TCP; Unix where the kernel tells).",
        ("listener",),
        _of_listeners("limit", datagrams=False),
    ),
    Family(
        "prefork_accept_queue_overflows_total",
        "counter",
        "Times that the kernel turned a connection away, above all because the queue was full (TCP).",
        ("listener",),
        _of_listeners("drops", datagrams=False),
    ),
    Family(
        "prefork_datagram_queue_bytes",
        "gauge",
        "What waits to be received, as the kernel counts it.",
        ("listener",),
        _of_listeners("waiting", datagrams=True),
    ),
    Family(
        "prefork_datagram_drops_total",
        "counter",
        "Datagrams that the kernel dropped because the queue was full (UDP).",
        ("listener",),
        _of_listeners("drops", datagrams=True),
    ),
    Family(
        "prefork_worker_restarts_total",
        "counter",
        "Workers that ended, or had to be ended, by their own fault, those that drained included.",
        ("reason",),
        lambda view: [((reason,), times) for reason, times in sorted({**_FORESEEN, **view.status["losses"]}.items())],
    ),
    Family(
        "prefork_workers_replaced_total",
        "counter",
        "Workers marked to be replaced while they served: over a limit, by order, or with a handler that does not end.",
        ("reason",),
        lambda view: [((reason,), times) for reason, times in view.status["replaced"].items()],
    ),
    Family(
        "prefork_suspects_total",
        "counter",
        "Times that a peer or a tag was named because it was being served at several crashes.",
        (),
        _of_totals("suspects"),
    ),
    Family(
        "prefork_reloads_total",
        "counter",
        "Reloads that are over: complete, failed, superseded by a later one, or refused (we stop, or upgrade).",
        ("result",),
        lambda view: [
            (("complete",), view.status["totals"]["reloads"]),
            (("failed",), view.status["totals"]["reloads_failed"]),
            (("refused",), view.status["totals"]["reloads_refused"]),
            (("superseded",), view.status["totals"]["reloads_superseded"]),
        ],
    ),
    Family(
        "prefork_log_lines_lost_total",
        "counter",
        "Lines that did not get into the log or the access log, because it was full, or nobody read it.",
        (),
        _of_totals("log_lines_lost"),
    ),
    Family(
        "prefork_backoff_seconds",
        "gauge",
        "How long the slot that waits longest will stay empty; 0 if none waits.",
        (),
        _one(lambda view: view.status["backoff"]),
    ),
    Family(
        "prefork_backoff_waited_seconds_total",
        "counter",
        "For how long slots have stayed empty for a back-off, all slots together.",
        (),
        _one(lambda view: view.status["backoff_waited"]),
    ),
    Family(
        "prefork_master_longest_turn_seconds",
        "gauge",
        "The longest time since the start for which the master heard nobody, the wait for a processor not counted.",
        (),
        _one(lambda view: view.status["longest_turn"]),
    ),
    Family(
        "prefork_worker_resident_bytes",
        "gauge",
        "Memory of a worker, what it shares with others included (RSS).",
        _WORKER,
        _of_workers("rss"),
    ),
    Family(
        "prefork_worker_proportional_bytes",
        "gauge",
        "Memory of a worker, what it shares divided among those who share it (PSS), up to 10 s ago.",
        _WORKER,
        _of_workers("pss"),
    ),
    Family(
        "prefork_worker_cpu_seconds_total",
        "counter",
        "CPU time of a worker.",
        _WORKER,
        _cpu,
    ),
    Family(
        "prefork_worker_beat_age_seconds",
        "gauge",
        "Since a worker was last heard.",
        _WORKER,
        _of_workers("beat_age"),
    ),
    Family(
        "prefork_tls_certificate_expiry_seconds",
        "gauge",
        "When a certificate expires, as Unix time.",
        ("names", "file"),
        _certificates,
    ),
    Family(
        "prefork_status_age_seconds",
        "gauge",
        "Since the master said all this: more than a few seconds if it does not answer.",
        (),
        _one(lambda view: view.age),
    ),
)


*_TOLD, _AGE = FAMILIES


def render_told(view: View, wanted: Format) -> str:
    """Write what stays the same until the master says something new."""
    return _render(_TOLD, view, wanted)


def render_age(view: View, wanted: Format) -> str:
    """Write what comes after that: how old it is."""
    return _render([_AGE], view, wanted) + ("# EOF\n" if wanted.open else "")


def _render(families: Iterable[Family], view: View, wanted: Format) -> str:
    lines: list[str] = []
    for family in families:
        rows = list(family.rows(view))
        if rows:
            # OpenMetrics names the family, the older text its samples.
            name = family.name.removesuffix("_total") if wanted.open else family.name
            lines += [f"# HELP {name} {_escape_help(family.help)}", f"# TYPE {name} {family.kind}"]
            for values, value in rows:
                lines += _samples(family, list(zip(family.labels, values, strict=True)), value, view)
    return "".join(f"{line}\n" for line in lines)


def _samples(family: Family, labels: list[tuple[str, object]], value: Any, view: View) -> Iterator[str]:
    if family.kind != "histogram":
        yield f"{family.name}{_in_braces(labels)} {_number(value)}"
        return
    bounds = [*(_number(float(bound)) for bound in view.status["duration_bounds"]), "+Inf"]
    for bound, count in zip(bounds, accumulate(value["durations"]), strict=True):
        yield f"{family.name}_bucket{_in_braces([*labels, ('le', bound)])} {count}"
    yield f"{family.name}_sum{_in_braces(labels)} {_number(value['seconds'])}"
    yield f"{family.name}_count{_in_braces(labels)} {sum(value['durations'])}"


def _in_braces(labels: list[tuple[str, object]]) -> str:
    inside = ",".join(f'{name}="{_escape_label(str(value))}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def _number(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(int(value))


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


# The table in the documentation

DOCUMENT = "docs/operating.md"
_TABLE = re.compile(
    r"(<!-- metrics: written by `python -m prefork\.admin\.metrics --write` -->\n).*?(\n<!-- end of metrics -->)", re.S
)


def updated(text: str) -> str:
    """Put the current table between the two markers of a text."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    table = "\n".join(rows)
    return _TABLE.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    Path(DOCUMENT).write_text(updated(Path(DOCUMENT).read_text()))
