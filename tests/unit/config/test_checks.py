"""Settings that contradict each other or this machine."""

import importlib.util
from typing import Any

import pytest

from prefork.address import parse_bind
from prefork.config.checks import find_contradictions, find_doubts
from prefork.config.settings import Settings


def test_the_defaults_contradict_nothing() -> None:
    assert list(find_contradictions(Settings())) == []


def test_reload_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert list(find_contradictions(Settings(reload=True))) == [
        ("reload", "needs the package watchfiles", "pip install 'prefork[reload]'")
    ]


@pytest.mark.parametrize(
    ("address", "warned"),
    [("tcp://127.0.0.1:1", False), ("tcp://[::1]:1", False), ("unix:/run/a", False), ("tcp://0.0.0.0:1", True)],
)
def test_admin_pages_that_others_can_reach_are_doubtful(address: str, warned: bool) -> None:
    doubts = list(find_doubts(Settings(admin=address)))

    assert any(doubt.startswith(f"admin: whoever reaches {address} ") for doubt in doubts) == warned


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"admin": "tcp://127.0.0.1:9999"}, ("admin", "tcp://127.0.0.1:9999 is also given as bind")),
        ({"agent": "tcp://127.0.0.1:9999"}, ("agent", "tcp://127.0.0.1:9999 is also given as bind")),
        (
            {"admin": "unix:/run/a?mode=0600", "agent": "unix:/run/a"},
            ("agent", "unix:/run/a is also given as admin"),
        ),
    ],
)
def test_the_pages_need_a_place_of_their_own(settings: dict[str, Any], finding: tuple[str, str]) -> None:
    assert list(find_contradictions(Settings(**settings))) == [(*finding, "choose another")]


def test_a_port_that_the_kernel_chooses_is_another_each_time() -> None:
    anywhere = "tcp://127.0.0.1:0"

    assert list(find_contradictions(Settings(admin=anywhere, agent=anywhere, bind=(parse_bind(anywhere),)))) == []


def test_a_control_path_must_fit_a_socket() -> None:
    (finding,) = find_contradictions(Settings(control="/" + "c" * 107))

    assert finding[0] == "control"


@pytest.mark.parametrize(
    ("settings", "option", "problem"),
    [
        (Settings(tls_cert=("/missing",)), "tls_cert", "/missing is not a file"),
        (Settings(tls_cert=(__file__,), tls_key=("/missing",)), "tls_key", "/missing is not a file"),
        (
            Settings(tls_cert=(__file__,) * 3, tls_key=(__file__,) * 2),
            "tls_key",
            "is given 2 times, tls_cert 3 times",
        ),
        (
            Settings(tls_cert=(__file__,), tls_verify="required"),
            "tls_verify",
            "is required, and nobody can vouch for a client",
        ),
        (Settings(tls_key=(__file__,)), "tls_key", "is given without a certificate, so nothing would be encrypted"),
        (Settings(tls_alpn=("h2",)), "tls_alpn", "is given without a certificate, so nothing would be encrypted"),
        (
            Settings(tls_verify="optional"),
            "tls_verify",
            "is given without a certificate, so nothing would be encrypted",
        ),
        (Settings(bind=(parse_bind("unix:@a?tls=on"),)), "bind", "unix:@a?tls=on needs a certificate"),
        (Settings(proxy_protocol="on"), "proxy_protocol", "proxies are expected, and none is trusted"),
        (Settings(bind=(parse_bind("unix:@a?proxy=on"),)), "bind", "proxies are expected, and none is trusted"),
    ],
)
def test_tls_and_proxies_need_what_belongs_to_them(settings: Settings, option: str, problem: str) -> None:
    assert [(name, what) for name, what, _ in find_contradictions(settings)] == [(option, problem)]


@pytest.mark.parametrize(
    ("bind", "trusted", "doubts"),
    [
        ("unix:@a", "127.0.0.1", ["unix:@a serves nobody: unix is not among them"]),
        ("tcp://[::]:1", "unix", ["tcp://[::]:1 serves nobody: no IP address is among them"]),
        ("unix:@a?proxy=off", "127.0.0.1", []),
        ("udp://:1", "unix", []),
        ("fd://3", "unix", []),
    ],
)
def test_a_listener_that_only_strangers_can_reach_is_doubted(bind: str, trusted: str, doubts: list[str]) -> None:
    settings = Settings(bind=(parse_bind(bind),), proxy_protocol="on", trusted_proxies=(trusted,))

    found = [doubt.removeprefix("trusted_proxies: ").partition(";")[0] for doubt in find_doubts(settings)]
    assert [doubt for doubt in found if "serves nobody" in doubt] == doubts


def test_options_without_effect_are_doubted() -> None:
    assert list(find_doubts(Settings(tls_ca="ca.pem", trusted_proxies=("unix",)))) == [
        "tls_ca: not used while tls_verify is none; no client is asked for a certificate",
        "trusted_proxies: not used while proxy_protocol is off; no listener expects a PROXY header",
    ]


@pytest.mark.parametrize(
    ("bind", "tls", "proxy"),
    [
        ("tcp://:1", True, True),
        ("tcp://:1?tls=off", False, True),
        ("unix:@a?proxy=off", True, False),
    ],
)
def test_a_listener_may_differ_from_the_others(bind: str, tls: bool, proxy: bool) -> None:
    settings = Settings(tls_cert=("cert.pem",), proxy_protocol="on")
    address = parse_bind(bind)

    assert (settings.speaks_tls(address), settings.demands_proxy_header(address)) == (tls, proxy)


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        (
            Settings(workers=4, min_workers=5, max_workers=3),
            ("min_workers", "must not be above max_workers, as 5 is above 3", "raise max_workers"),
        ),
        (
            Settings(workers=9, min_workers=2, max_workers=8),
            ("workers", "must be from 2 to 8 (min_workers to max_workers), not 9", ""),
        ),
        (
            Settings(workers=1, min_workers=2),
            ("workers", "must be from 2 to 1 (min_workers to max_workers), not 1", ""),
        ),
        (
            Settings(max_requests_jitter=10),
            ("max_requests_jitter", "does nothing without max_requests", "set max_requests too"),
        ),
    ],
)
def test_numbers_that_do_not_go_together(settings: Settings, finding: tuple[str, str, str]) -> None:
    assert list(find_contradictions(settings)) == [finding]


@pytest.mark.parametrize(("least", "most"), [(0, 0), (2, 0), (0, 8), (4, 4)])
def test_numbers_that_go_together(least: int, most: int) -> None:
    assert list(find_contradictions(Settings(workers=4, min_workers=least, max_workers=most))) == []
