"""How each action reads in the log: the level, what is done, and to whom. The action's reason follows."""

from __future__ import annotations

import logging

from prefork.policy import actions
from prefork.policy.actions import Action

_GRAVE = {"reload failed": logging.ERROR, "start failed": logging.ERROR, "upgrade failed": logging.ERROR}
_ALWAYS_THE_SAME: dict[type[Action], str] = {
    actions.Spawn: "starting worker",
    actions.Dump: "asking worker for its stacks",
    actions.Kill: "killing worker",
    actions.StartSuccessor: "starting successor",
    actions.EndSuccessor: "ending successor",
}
_NOTABLE = (
    "preloading unsafe",
    "reload refused",
    "scaling refused",
    "upgrade refused",
    "recycle refused",
    "worker lost",
    "worker gone",
    "worker stuck",
    "short of workers",
    "worker survived kill",
    "deadlines moved",
)


def level_of(action: Action) -> int:
    """Return the level at which an action is logged."""
    match action:
        case actions.Kill() | actions.Dump():
            return logging.WARNING
        case actions.Report(subject=subject):
            return _GRAVE.get(subject, logging.WARNING if subject in _NOTABLE else logging.INFO)
        case actions.Exit(code=code):
            return logging.ERROR if code else logging.INFO
    return logging.INFO


def headline_of(action: Action) -> str:
    """Say what is done, in the words that come before the reason."""
    match action:
        case actions.PrepareGeneration(generation):
            return f"preparing generation {generation}"
        case actions.StartMold(_, preload):
            return "starting mold" + (" that does not preload" if preload == "never" else "")
        case actions.Drain(_, 0):
            return "draining worker at once"
        case actions.Drain(_, seconds, final, hand_over=hand_over):
            queue, parked = " and its queue" if final else "", ", others take over what is parked" if hand_over else ""
            return f"draining worker{queue}, {seconds:g} s at most{parked}"
        case actions.ReleaseGeneration(generation):
            return f"released generation {generation}"
        case actions.Report(subject):
            return subject
        case actions.Exit(code):
            return f"exiting with status {code}"
    return _ALWAYS_THE_SAME[type(action)]


def detail_of(action: Action) -> str:
    """Return the lines below, such as a traceback."""
    return action.detail if isinstance(action, actions.Report | actions.Exit) else ""
