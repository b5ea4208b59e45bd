"""The screen of `prefork top`: made for 80 x 24 over ssh, and better with more."""

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, RichLog, Static

from prefork.cli.choice import Choice
from prefork.cli.discovery import ControlPlace
from prefork.cli.feed import Feed, Reading
from prefork.cli.output import plain
from prefork.cli.replies import DecisionReply, StatusReply, WorkerReply
from prefork.cli.status import count, span

_MOST_REQUESTS = 200
_MOST_DECISIONS = 500
_LONG = 10.0  # seconds after which a request stands out
_STATES = {"serving": "green", "starting": "cyan", "draining": "yellow", "killed": "red", "reloading": "cyan"}


class NewReading(Message):
    """A status was read."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        super().__init__()


class NewDecision(Message):
    """The server decided something."""

    def __init__(self, text: str, at: float) -> None:
        self.text = text
        self.at = at
        super().__init__()


class Lost(Message):
    """The server does not answer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


class Told(Message):
    """An order was carried out, or was not."""

    def __init__(self, text: str, failed: bool = False) -> None:
        self.text = text
        self.failed = failed
        super().__init__()


class StacksArrived(Message):
    """A worker's stacks."""

    def __init__(self, title: str, text: str) -> None:
        self.title = title
        self.text = text
        super().__init__()


class Stacks(ModalScreen[None]):
    """The stacks of a worker, to be scrolled through."""

    CSS = """
    Stacks > VerticalScroll { border: solid $accent; background: $surface; }
    Stacks Static { width: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = self._title
            scroll.border_subtitle = "escape: back"
            yield Static(Text(self._text))


class Top(App[None]):
    """Shows what the feed says, and passes on what the keys order."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 3; padding: 0 1; }
    #workers { height: auto; max-height: 45%; border-top: solid $primary; scrollbar-size-vertical: 1; }
    #requests { height: 1fr; border-top: solid $primary; scrollbar-size-vertical: 1; }
    #decisions { height: 1fr; border-top: solid $primary; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "reload", "Reload"),
        Binding("c", "recycle", "Recycle worker"),
        Binding("d", "dump", "Dump stacks"),
        Binding("plus", "scale(1)", "More", key_display="+"),
        Binding("minus", "scale(-1)", "Fewer", key_display="-"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, place: ControlPlace, choice: Choice) -> None:
        super().__init__()
        self._shown: set[tuple[float, str]] | None = None  # decisions that may come again; None before the first status
        # Held here because a query would look at the screen in front, which may be that of the stacks.
        self.head = Static(id="head")
        self.worker_table: DataTable[Text] = DataTable(id="workers", cursor_type="row")
        self.request_table: DataTable[Text] = DataTable(id="requests", cursor_type="none")
        self.decision_log = RichLog(id="decisions", max_lines=_MOST_DECISIONS, wrap=True, min_width=20)
        self._feed = Feed(
            place,
            choice,
            on_reading=lambda reading: self.post_message(NewReading(reading)),
            on_decision=lambda text, at: self.post_message(NewDecision(text, at)),
            on_lost=lambda reason: self.post_message(Lost(reason)),
        )

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.worker_table
        yield self.request_table
        yield self.decision_log
        yield Footer()

    def on_mount(self) -> None:
        workers, requests, decisions = self.worker_table, self.request_table, self.decision_log
        for table, titles in (
            (workers, ("SLOT", "GEN", "PID", "STATE", "AGE", "BUSY", "OPEN", "CONN/S", "FAILED", "MEMORY")),
            (requests, ("WORKER", "FOR", "PEER", "TAG")),
        ):
            for title in titles:
                table.add_column(Text(title, style="bold"), key=title)
        workers.border_title = "workers"
        requests.border_title = "being served"
        decisions.border_title = "decisions"
        decisions.can_focus = requests.can_focus = False
        workers.focus()
        self._feed.start()

    def on_unmount(self) -> None:
        self._feed.stop()

    @on(NewReading)
    def show_reading(self, message: NewReading) -> None:
        """Show a new status everywhere."""
        reading = message.reading
        self._catch_up(reading.status.decisions)
        self.head.update(render_head(reading, self.head.content_size.width))
        self._show_workers(reading)
        self._show_requests(reading.status)

    @on(NewDecision)
    def show_decision(self, message: NewDecision) -> None:
        """Add a line to the decisions; before the first status, a status will have it in its place."""
        if self._shown is not None:
            self._show_once(message.at, message.text, self._shown)

    def _catch_up(self, latest: list[DecisionReply]) -> None:
        """Show what was decided while nobody followed: before we did, or between two connections."""
        oldest = min((one.at for one in latest), default=0.0)
        self._shown = {one for one in self._shown or () if one[0] >= oldest}
        for decision in latest:
            self._show_once(decision.at, f"{decision.what}: {decision.why}", self._shown)

    def _show_once(self, at: float, text: str, shown: set[tuple[float, str]]) -> None:
        if (at, text) not in shown:
            shown.add((at, text))
            what, _, why = plain(text).partition(": ")
            self.decision_log.write(Text.assemble((what, "bold"), ": ", why))

    @on(Lost)
    def show_loss(self, message: Lost) -> None:
        """Say that what stands below is old."""
        self.head.update(Text(plain(message.reason), style="bold red"))

    @on(Told)
    def show_outcome(self, message: Told) -> None:
        """Say among the decisions how an order ended: nothing shall stand in front of what one looks at."""
        self.decision_log.write(Text(plain(message.text), style="bold red" if message.failed else "bold green"))

    @on(StacksArrived)
    async def show_stacks(self, message: StacksArrived) -> None:
        """Show stacks over everything else."""
        await self.push_screen(Stacks(message.title, message.text))

    def action_reload(self) -> None:
        """Reload the server."""
        self._order({"command": "reload"}, "reload", lambda result: f"generation {result['generation']} serves")

    def action_recycle(self) -> None:
        """Recycle the worker under the cursor."""
        if (slot := self._chosen_slot()) is not None:
            self._order({"command": "recycle", "slot": slot}, "recycle", lambda result: f"worker {slot} was replaced")

    def action_scale(self, change: int) -> None:
        """Have one worker more or fewer."""
        self._order(
            {"command": "scale", "change": change}, "scale", lambda result: f"{result['workers']} workers serve"
        )

    def action_dump(self) -> None:
        """Show the stacks of the worker under the cursor."""
        if (slot := self._chosen_slot()) is None:
            return
        self._feed.order(
            {"command": "dump", "slot": slot},
            done=lambda result: self.post_message(StacksArrived(f"stacks of worker {slot}", render_stacks(result))),
            failed=lambda reason: self.post_message(Told(_dump_failed(reason), failed=True)),
        )

    def _order(self, request: dict[str, object], what: str, say: Any) -> None:
        self._feed.order(
            request,
            done=lambda result: self.post_message(Told(say(result))),
            failed=lambda reason: self.post_message(Told(f"{what} not done: {reason}", failed=True)),
        )

    def _chosen_slot(self) -> int | None:
        workers = self.worker_table
        if workers.row_count == 0:
            return None
        key = workers.coordinate_to_cell_key(workers.cursor_coordinate).row_key.value
        return int((key or "").partition("/")[0])

    def _show_workers(self, reading: Reading) -> None:
        """Bring the rows up to date in place, so that the cursor stays on its worker."""
        table = self.worker_table
        workers = {f"{one.slot}/{one.generation}/{one.pid}": one for one in reading.status.workers}
        if [key.value for key in table.rows] != list(workers):
            cursor = self._chosen_slot()
            table.clear()
            for key in workers:
                table.add_row(*(Text() for _ in table.columns), key=key)
            rows = [place for place, one in enumerate(workers.values()) if one.slot == cursor]
            table.move_cursor(row=rows[0] if rows else 0)
        for key, worker in workers.items():
            for column, cell in zip(table.columns, worker_cells(worker, reading), strict=True):
                table.update_cell(key, column, cell, update_width=True)
        serving = sum(one.state == "serving" for one in workers.values())
        table.border_title = f"workers: {serving} of {reading.status.wanted} serve"

    def _show_requests(self, status: StatusReply) -> None:
        table = self.request_table
        serving = sorted(
            ((one, worker.slot) for worker in status.workers for one in worker.requests),
            key=lambda each: -each[0].seconds,
        )
        at = table.scroll_offset.y
        table.clear()
        for request, slot in serving[:_MOST_REQUESTS]:
            style = "yellow" if request.seconds >= _LONG else ""
            table.add_row(
                Text(str(slot), justify="right"),
                Text(span(request.seconds), style=style, justify="right"),
                Text(plain(request.peer)),
                Text(plain(request.tag)),
            )
        table.scroll_to(y=at, animate=False)
        table.border_title = f"being served: {sum(worker.threads_busy for worker in status.workers)}"


def render_head(reading: Reading, width: int) -> Text:
    """Write the three lines at the top, each in one line of the terminal: a fourth would not be seen."""
    status = reading.status
    state = status.state + (f" to generation {status.candidate}" if status.candidate is not None else "")
    readiness = (
        ("ready", "green") if status.ready else ("drained", "yellow") if status.draining else ("not ready", "red")
    )
    serving = [worker for worker in status.workers if worker.state == "serving"]
    busy, threads = (sum(getattr(worker, name) for worker in serving) for name in ("threads_busy", "threads"))
    head = Text.assemble(
        (plain(status.name), "bold"),
        "  ",
        (state, _STATES.get(status.state, "red")),
        ", ",
        readiness,
        f"  generation {status.generation}  pid {status.pid}  up {span(status.uptime)}\n",
        plain("  ".join([status.target, *(listener.address for listener in status.listeners)])),
        "\n",
        f"{_rate(reading.accepted_rate)} conn/s  {_rate(reading.failed_rate)} failed/s  busy {busy}/{threads}  ",
        f"open {sum(worker.open for worker in status.workers)}  accepted {count(status.totals.get('accepted', 0))}  ",
        f"restarts {status.totals.get('restarts', 0)}",
    )
    lines = head.split("\n")
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def worker_cells(worker: WorkerReply, reading: Reading) -> list[Text]:
    """Write one row of the workers."""
    state = f"{worker.state}, worn" if worker.recycling and worker.state == "serving" else worker.state
    texts = [
        str(worker.slot),
        str(worker.generation),
        "" if worker.pid is None else str(worker.pid),
        span(worker.age),
        f"{worker.threads_busy}/{worker.threads}",
        count(worker.open),
        _rate(reading.rates.get(worker.pid or 0)),
        count(worker.failed),
        "" if worker.rss is None else f"{worker.rss / 2**20:.0f}M",
    ]
    cells = [Text(text, justify="right") for text in texts]
    cells.insert(3, Text(state, style=_STATES.get(worker.state, "")))
    return cells


def render_stacks(result: Any) -> str:
    """Write the answer to a dump."""
    workers = result.get("workers") if isinstance(result, dict) else None
    if not isinstance(workers, list):
        return "the answer makes no sense; is the server another version of prefork?"
    texts = [str(worker.get("stacks", "")) for worker in workers if isinstance(worker, dict)]
    return "\n".join(plain(line) for line in "\n\n".join(texts).splitlines()) or "no worker answered"


def _dump_failed(reason: str) -> str:
    if reason.startswith("unknown or incomplete command"):
        return "this server cannot dump stacks: it is a version of prefork that does not know how"
    return f"dump not done: {reason}"


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"
