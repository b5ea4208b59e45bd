"""The decisions on the screen of `prefork top`: each once, whether the status or the one who follows had it first."""

import asyncio

import pytest
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import RichLog, Static

from prefork.cli.choice import Choice
from prefork.cli.discovery import ControlPlace
from prefork.cli.feed import Reading
from prefork.cli.replies import DecisionReply, ListenerReply, StatusReply
from prefork.cli.screen import NewDecision, NewReading, Told, Top
from tests.process.test_top import until

NOWHERE = "/nonexistent/control"
THE_END = "that is all"


def read(*decisions: tuple[float, str]) -> Message:
    """Make a status that holds these decisions."""
    replies = [DecisionReply(at, what, "a reason") for at, what in decisions]
    return NewReading(Reading(StatusReply(decisions=replies), None, None, {}))


def followed(at: float, what: str) -> Message:
    return NewDecision(f"{what}: a reason", at)


def shown_after(*messages: Message) -> list[str]:
    """Let a screen receive these, and return which decisions it then shows."""

    async def run() -> list[str]:
        async with Top(ControlPlace(path=NOWHERE), Choice(control=NOWHERE)).run_test() as pilot:
            for message in (*messages, Told(THE_END)):
                pilot.app.post_message(message)
            await until(pilot, lambda: THE_END in lines_of(pilot))
            return [line.removesuffix(": a reason") for line in lines_of(pilot) if line != THE_END]

    return asyncio.run(run())


def lines_of(pilot: Pilot[None]) -> list[str]:
    return [line.text.rstrip() for line in pilot.app.screen_stack[0].query_one(RichLog).lines]


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([read((1.0, "one")), followed(2.0, "two")], ["one", "two"]),
        ([read((1.0, "one")), read((1.0, "one"), (2.0, "two")), followed(3.0, "three")], ["one", "two", "three"]),
        ([followed(2.0, "two"), read((1.0, "one")), read((1.0, "one"), (2.0, "two"))], ["one", "two"]),
        ([read(), followed(1.0, "one"), read((1.0, "one"))], ["one"]),
        ([read(), read((1.0, "one")), followed(1.0, "one")], ["one"]),
        ([read(), followed(1.0, "one"), followed(2.0, "one")], ["one", "one"]),
    ],
    ids=[
        "each comes one way",
        "one was decided before anybody followed",
        "one came before the first status",
        "the status repeats it",
        "the status had it first",
        "the same was decided twice",
    ],
)
def test_each_decision_is_shown_once_and_in_order(messages: list[Message], shown: list[str]) -> None:
    assert shown_after(*messages) == shown


def test_the_head_keeps_its_three_lines_however_many_listeners_there_are() -> None:
    status = StatusReply(name="shop", listeners=[ListenerReply(f"tcp://10.0.0.{number}:80") for number in range(9)])

    async def run() -> list[str]:
        async with Top(ControlPlace(path=NOWHERE), Choice(control=NOWHERE)).run_test(size=(80, 24)) as pilot:

            def is_shown() -> bool:
                if "shop" in str(head_of(pilot).render()):
                    return True
                # Again, because the screen's own feed says in the same place that there is no server.
                pilot.app.post_message(NewReading(Reading(status, None, None, {})))
                return False

            await until(pilot, is_shown)
            return [head_of(pilot).render_line(row).text.strip() for row in range(3)]

    name, listeners, rates = asyncio.run(run())

    assert name.startswith("shop")
    assert listeners.endswith("…")
    assert rates.startswith("- conn/s")


def head_of(pilot: Pilot[None]) -> Static:
    return pilot.app.screen_stack[0].query_one("#head", Static)
