"""The handlers of pong.py for a worker whose leader promotes a follower for every request."""

from prefork.serving import promotion
from tests.bench.pong import PongHandler, SometimesWaitingPongHandler, WaitingPongHandler

__all__ = ["PongHandler", "SometimesWaitingPongHandler", "WaitingPongHandler"]

promotion.TICK = 0.0  # no request comes as soon after another as that
