"""The same handler in an application that computes for a second when it is imported."""

import time

from tests.bench.pong import PongHandler as PongHandler

_end = time.monotonic() + 1
while time.monotonic() < _end:
    pass
