"""A status with something of everything."""

from typing import Any

from prefork.ipc.tallies import BOUNDS

RELOADS = {"reloads": 3, "reloads_failed": 1, "reloads_refused": 4, "reloads_superseded": 5}


def worker(slot: int, **fields: Any) -> dict[str, Any]:
    return {
        "slot": slot,
        "generation": 2,
        "pid": 100 + slot,
        "state": "serving",
        "threads": 8,
        "threads_busy": 2,
        "beat_age": 0.25,
        "accepting": True,
        "pss": 4,
        **fields,
    }


def connections(
    listener: str, *durations: int, failed: int = 0, refused: int = 0, seconds: float = 0.5
) -> dict[str, Any]:
    ended = [*durations, *[0] * (len(BOUNDS) + 1 - len(durations))]
    accepted = sum(ended) + 3
    return {
        "listener": listener,
        "accepted": accepted,
        "open": 2,
        "lost": 1,
        "handed_over": 6,
        "taken_over": 5,
        "failed": failed,
        "refused": refused,
        "served": sum(ended) - failed - refused,
        "seconds": seconds,
        "durations": ended,
    }


def status(**fields: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "pid": 99,
        "version": "1.2",
        "python": "3.13",
        "state": "serving",
        "ready": True,
        "draining": False,
        "uptime": 12.5,
        "generation": 2,
        "candidate": None,
        "wanted": 2,
        "workers": [
            worker(0, parked=4, rss=5),
            worker(1, parked=3),
            worker(2, generation=1, state="draining"),
            {**worker(3), "pid": None},
        ],
        "listeners": [
            {"address": "tcp://127.0.0.1:80", "waiting": 3, "limit": 128, "drops": 4},
            {"address": "udp://127.0.0.1:53", "waiting": 768, "limit": 212992, "drops": 5},
            {"address": 'unix:/run/"x"\\', "waiting": None, "limit": None, "drops": None},
        ],
        "connections": [
            connections("tcp://127.0.0.1:80", 4, 5, failed=2, refused=1),
            connections('unix:/run/"x"\\', 0, 0, 1),
        ],
        "duration_bounds": list(BOUNDS),
        "losses": {"killed by SIGKILL": 2, "heartbeat timeout": 1},
        "replaced": {"max_requests": 3, "order": 0},
        "totals": {**RELOADS, "suspects": 2, "log_lines_lost": 17},
        "backoff": 0.0,
        "backoff_waited": 1.5,
        "longest_turn": 0.004,
        "certificates": [
            {"file": "/etc/rsa.pem", "names": ["a.example", "b.example"], "not_after": 1800000000},
            {"file": "/etc/ec.pem", "names": ["a.example", "b.example"], "not_after": 1900000000},
        ],
        **fields,
    }
