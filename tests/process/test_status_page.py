"""The status page in a real browser."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.admin import url_of
from tests.support.application import write_application
from tests.support.browser import Browser, browser
from tests.support.clients import LineClient, steady_load

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(300)]

ANYWHERE = "tcp://127.0.0.1:0"


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose page has nothing to complain about in the end."""
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
        # The page asks on, and the server of the last test has stopped, perhaps in the middle of an answer.
        assert [problem for problem in opened.problems if "net::ERR_" not in problem] == []


def visit(page: Browser, server: Server) -> None:
    page.open(url_of(server))
    page.wait_for("document.querySelector('.tile.serving') !== null")


def test_it_shows_the_fleet_and_what_is_served(serve: Serve, page: Browser) -> None:
    with serve(workers=3, threads=4, admin=ANYWHERE, name="shop") as server, LineClient(server.address) as client:
        client.ask("version")
        visit(page, server)
        page.wait_for("document.querySelectorAll('#requests li').length === 1")

        assert page.evaluate("document.querySelector('h1').textContent") == "shop"
        assert page.evaluate("document.querySelector('#state').textContent") == "serving"
        assert page.evaluate("document.querySelectorAll('.tile.serving').length") == 3
        assert page.evaluate("document.querySelectorAll('.threads i').length") == 12
        assert page.evaluate("document.querySelectorAll('.threads i.busy').length") == 1


def test_it_follows_a_reload_with_both_generations_side_by_side(serve: Serve, page: Browser) -> None:
    with serve(workers=2, admin=ANYWHERE) as server, LineClient(server.address) as client:
        client.ask("version")  # keeps a worker of the first generation
        visit(page, server)
        server.signal(signal.SIGHUP)
        page.wait_for("document.querySelectorAll('.generation').length === 2")
        page.wait_for("document.querySelector('#facts').textContent.includes('generation 2')")
        page.wait_for("document.querySelectorAll('.generation:last-child .tile.serving').length === 2")
        page.wait_for("document.querySelector('.generation:first-child .tile.draining') !== null")

        assert page.evaluate("document.querySelectorAll('.tile.lost').length") == 0
        page.wait_for("document.querySelector('#decisions').textContent.includes('reload complete')")


def test_it_shows_a_killed_worker_and_its_successor(serve: Serve, page: Browser) -> None:
    with serve(workers=2, admin=ANYWHERE) as server:
        visit(page, server)
        page.wait_for("document.querySelectorAll('.tile.serving').length === 2")
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        page.wait_for("document.querySelector('.tile.lost') !== null")
        page.wait_for("document.querySelectorAll('.tile.serving').length === 2")
        page.wait_for("document.querySelector('#decisions .warning') !== null")
        warnings = "[...document.querySelectorAll('#decisions .warning')].map(one => one.textContent)"

        # One that dies soon after its start is followed later, which is another warning.
        assert any("killed by SIGKILL" in warning for warning in page.evaluate(warnings))


def test_what_clients_choose_is_shown_as_text(serve: Serve, page: Browser, project: Path) -> None:
    write_application(
        project,
        extra="""
class Tagged(Handler):
    def setup(self):
        super().setup()
        self.server.tag("<img src=x onerror=document.title='owned'><b>\\u202e\\x1b")
""",
    )
    with serve("app:Tagged", workers=1, admin=ANYWHERE) as server, LineClient(server.address) as client:
        client.ask("version")
        visit(page, server)
        page.wait_for("document.querySelector('#requests li') !== null")

        assert page.evaluate("document.querySelector('#requests').textContent").count("<img src=x") == 1
        assert r"<b>\u{202e}\u{1b}  127.0.0.1:" in page.evaluate("document.querySelector('#requests').textContent")
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert page.evaluate("document.title") == "app · prefork"


def test_it_draws_how_much_was_served_and_how_long_that_took(serve: Serve, page: Browser) -> None:
    with serve(workers=2, admin=ANYWHERE) as server, LineClient(server.address) as busy:
        visit(page, server)
        busy.send("eval __import__('threading').Event().wait(60)")
        with steady_load(server.address, clients=1):  # the figure is the last second's
            page.wait_for("/[1-9]/.test(document.querySelector('#figures dd').textContent)")
        for chart in ("rate", "latency"):
            page.wait_for(f"document.querySelectorAll('#{chart} path').length > 0")
        page.wait_for("/[2-9] ?s/.test(document.querySelector('#requests li').textContent)")  # and for how long


def test_it_says_when_nobody_answers(serve: Serve, page: Browser) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        visit(page, server)
        server.signal(signal.SIGSTOP)
        page.wait_for("document.querySelector('#state').textContent === 'the master does not answer'")
        server.signal(signal.SIGCONT)
        page.wait_for("document.querySelector('#state').textContent === 'serving'")
    page.problems.clear()  # the browser logs each answer of 503


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_it_fits_a_phone_and_a_desk_by_day_and_by_night(serve: Serve, page: Browser, width: int, scheme: str) -> None:
    page.resize(width, 800)
    page.prefer(scheme)
    with serve(workers=2, admin=ANYWHERE) as server:
        visit(page, server)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g)[0]")
        assert (int(background) < 128) == (scheme == "dark")
