"""Plays a scenario on a socketserver module and returns its trace: the calls and outcomes in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

Scenario = Callable[[Any, "Trace"], None]

SCENARIOS: dict[str, Scenario] = {}


class Trace(list[tuple[Any, ...]]):
    """What happened. A step is a tuple of plain values, so that two traces can be compared and shown."""

    def note(self, *words: Any) -> None:
        self.append(words)

    @contextmanager
    def noting_raise(self) -> Iterator[None]:
        """Note the exception that leaves the block, or that none did."""
        try:
            yield
        except BaseException as error:
            self.note("raised", type(error).__name__, str(error))
        else:
            self.note("returned")


def scenario(play: Scenario) -> Scenario:
    """Register a scenario. Its name is the sentence it holds the two modules to."""
    assert play.__name__ not in SCENARIOS, play.__name__
    SCENARIOS[play.__name__] = play
    return play


def scenarios(values: Iterable[Any]) -> Callable[[Callable[..., None]], None]:
    """Register one scenario for each value, which it gets as a third argument."""

    def register(play: Callable[..., None]) -> None:
        for value in values:
            name = f"{play.__name__}[{getattr(value, '__name__', value)}]"
            assert name not in SCENARIOS, name
            SCENARIOS[name] = partial(_play_with, play, value)

    return register


def _play_with(play: Callable[..., None], value: Any, module: Any, trace: Trace) -> None:
    play(module, trace, value)


def play(name: str, module: ModuleType) -> Trace:
    trace = Trace()
    SCENARIOS[name](module, trace)
    return trace


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Replace attributes of a module, class or instance for the length of the block."""
    absent = object()
    before = {name: vars(owner).get(name, absent) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is absent:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
