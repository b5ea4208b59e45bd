"""The pretend processes: what is really the case, whatever the supervisor believes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prefork.policy.fleet import FleetSettings

BEAT_INTERVAL = 0.5


@dataclass(slots=True)
class Mold:
    generation: int
    settings: FleetSettings
    alive: bool = True
    loaded: bool = False


@dataclass(slots=True)
class Process:
    """A worker process. It accepts from the moment it is ready until it is drained, killed or dead."""

    number: int
    slot: int
    generation: int
    spawned_at: float
    alive: bool = True
    ready: bool = False
    stopped_accepting: bool = False
    hung: bool = False  # neither beats nor obeys; its kernel socket may still look alive
    late: bool = False  # a handler of it is over its time; if it also hangs, its interpreter is held
    stuck: bool = False  # a handler of it does not end, and it has said so
    dumped_at: float = -math.inf
    broken: bool = False
    kill_sent: bool = False
    drain_seconds: float = math.inf  # as it was told, if it was
    drained_at: float = math.inf
    told_until: float = 0.0  # its messages arrive in their order
    beats_since: float = math.inf
    last_beat_before: float = -math.inf
    leaks: bool = False
    served: int = 0

    @property
    def accepting(self) -> bool:
        return self.alive and self.ready and not self.stopped_accepting

    @property
    def healthy(self) -> bool:
        return self.accepting and not self.hung and not self.broken and not self.stuck and self.drained_at == math.inf

    def last_beat(self, now: float) -> float:
        if now < self.beats_since:
            return self.last_beat_before
        return self.beats_since + math.floor((now - self.beats_since) / BEAT_INTERVAL) * BEAT_INTERVAL

    def stop_beating(self, now: float, again_at: float = math.inf) -> None:
        self.last_beat_before = self.last_beat(now)
        self.beats_since = again_at
