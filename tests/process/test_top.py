"""`prefork top` beside a real server: driven through textual's pilot, and once for real in a terminal."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog, Static

from prefork.cli.choice import Choice
from prefork.cli.screen import Stacks, Top
from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import control, prefork
from tests.support.clients import TIME_LIMIT, LineClient, eventually

Watch = Callable[[Pilot[None]], Awaitable[None]]


def watch(server: Server, actions: Watch, size: tuple[int, int] = (80, 24)) -> None:
    """Run the screen for this server without a terminal, and do something with it."""
    choice = Choice(pid=server.pid)
    with choice.connect() as connection:
        place = connection.place

    async def run() -> None:
        async with Top(place, choice).run_test(size=size) as pilot:
            await actions(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], shown: Callable[[], bool]) -> None:
    """Let the screen go on until it shows something."""
    deadline = time.monotonic() + TIME_LIMIT
    while not shown():
        assert time.monotonic() < deadline, "the screen never showed it:\n" + text_of(pilot)
        await pilot.pause(0.05)


def text_of(pilot: Pilot[None]) -> str:
    """Everything that the screen shows, widget by widget."""
    screen = pilot.app.screen_stack[0]
    head = str(screen.query_one("#head", Static).render())
    tables = [
        "\n".join(" ".join(str(cell) for cell in table.get_row_at(row)) for row in range(table.row_count))
        for table in screen.query(DataTable)
    ]
    return "\n".join([head, *tables, *(line.text for line in screen.query_one(RichLog).lines)])


def shows(pilot: Pilot[None], *texts: str) -> Callable[[], bool]:
    return lambda: all(text in text_of(pilot) for text in texts)


def test_it_shows_the_server_its_workers_and_whom_they_serve(serve: Serve) -> None:
    with serve(workers=2, name="shop") as server, LineClient(server.address) as client:
        client.ask("eval self.server.tag('GET /slow')")
        pids = [str(worker["pid"]) for worker in server.workers()]
        peer = "{}:{}".format(*client._socket.getsockname())

        async def look(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "shop", "serving, ready", "generation 1", *pids, peer, "GET /slow"))
            assert "busy 1/256" in text_of(pilot)

        watch(server, look)


def test_decisions_appear_with_their_reasons_as_they_are_taken(serve: Serve) -> None:
    with serve(workers=1) as server:
        (worker,) = server.workers()

        def is_followed(pilot: Pilot[None]) -> bool:
            """Have something decided that changes nothing: it appears once the screen follows, not only asks."""
            server.signal(signal.SIGTTOU)
            return shows(pilot, "scaling refused")()

        async def look(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "serving"))
            await until(pilot, lambda: is_followed(pilot))
            os.kill(worker["pid"], signal.SIGKILL)
            await until(pilot, shows(pilot, "worker lost: killed by SIGKILL"))

        watch(server, look, size=(160, 40))


def test_r_reloads(serve: Serve) -> None:
    with serve(workers=1) as server:

        async def press(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "serving"))
            await pilot.press("r")
            await until(pilot, shows(pilot, "\ngeneration 2 serves"))  # a line of its own: the canary serves earlier

        watch(server, press)
        assert server.status()["generation"] == 2


def test_plus_and_minus_scale(serve: Serve) -> None:
    with serve(workers=2) as server:

        async def press(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "serving"))
            await pilot.press("plus")
            await until(pilot, shows(pilot, "3 workers serve"))
            await pilot.press("minus", "minus")
            await until(pilot, shows(pilot, "1 workers serve"))

        watch(server, press)
        assert server.status()["wanted"] == 1


def test_c_recycles_the_worker_under_the_cursor(serve: Serve) -> None:
    with serve(workers=3) as server:
        before = {worker["slot"]: worker["pid"] for worker in server.workers()}

        async def press(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, *(str(pid) for pid in before.values())))
            await pilot.press("down", "c")
            await until(pilot, shows(pilot, "worker 1 was replaced"))

        watch(server, press)
        after = {worker["pid"] for worker in server.workers()}
        assert set(before.values()) - after == {before[1]}


def test_d_shows_the_stacks_of_the_worker_while_the_rest_goes_on(serve: Serve) -> None:
    with serve(workers=1) as server:

        async def press(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "serving"))
            while 'File "' not in await stacks_of_the_worker(pilot):  # it had no time to run within a second
                await pilot.press("escape")
            server.reload()
            await pilot.press("escape")
            await until(pilot, shows(pilot, "generation 2", "reload complete"))

        async def stacks_of_the_worker(pilot: Pilot[None]) -> str:
            await until(pilot, lambda: not isinstance(pilot.app.screen, Stacks))
            await pilot.press("d")
            # The screen is in front before it has been filled.
            await until(pilot, lambda: isinstance(pilot.app.screen, Stacks) and bool(pilot.app.screen.query(Static)))
            return str(pilot.app.screen.query_one(Static).render())

        watch(server, press)


def test_a_server_that_is_gone_is_said_to_be(serve: Serve) -> None:
    with serve(workers=1) as server:

        async def look(pilot: Pilot[None]) -> None:
            await until(pilot, shows(pilot, "serving"))
            server.stop()
            await until(pilot, shows(pilot, "no server with the pid"))

        watch(server, look)


def test_without_a_server_it_says_so() -> None:
    done = prefork("top", "--pid", "1")

    assert done.returncode == 5
    assert done.stderr.startswith("prefork: no server with the pid 1")


def test_without_a_terminal_it_names_the_way_out(serve: Serve) -> None:
    with serve(workers=1) as server:
        done = control(server, "top")

        assert done.returncode == 2
        assert done.stderr == "prefork: prefork top needs a terminal; `prefork status` prints the same once\n"


def test_without_its_package_it_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("raise ModuleNotFoundError('no', name='textual')")
    done = subprocess.run(
        [sys.executable, "-m", "prefork", "top"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == "prefork: prefork top needs the package textual; pip install 'prefork[top]'\n"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[list[str]]:
    """A tmux server of our own."""
    words = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "tmux")]
    yield words
    subprocess.run([*words, "kill-server"], capture_output=True, check=False, timeout=30)


@pytest.mark.needs("tmux")
def test_it_works_in_a_real_terminal_of_80_by_24(serve: Serve, terminal: list[str]) -> None:
    with serve(workers=4, name="shop") as server:
        command = f"{sys.executable} -m prefork top --pid {server.pid}"
        subprocess.run([*terminal, "new-session", "-d", "-x", "80", "-y", "24", command], check=True, timeout=30)

        def screen() -> str:
            return subprocess.run(
                [*terminal, "capture-pane", "-p"], capture_output=True, text=True, check=False, timeout=30
            ).stdout

        def shows(*texts: str) -> bool:
            shown = screen()
            return all(text in shown for text in texts)

        # All of it fits; it is painted piece by piece.
        eventually(lambda: shows("shop  serving, ready  generation 1", "4 of 4 serve", "Recycle worker"))
        subprocess.run([*terminal, "send-keys", "r"], check=True, timeout=30)
        eventually(lambda: "generation 2 serves" in screen())
        subprocess.run([*terminal, "send-keys", "q"], check=True, timeout=30)
        eventually(lambda: subprocess.run([*terminal, "has-session"], capture_output=True, check=False).returncode != 0)
