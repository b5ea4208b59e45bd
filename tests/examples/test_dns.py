from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.dns import EXAMPLE_ZONE
from prefork import testing
from prefork.errors import NotDone
from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.serving import serve_calmly

NAMES = b"example.test A\nwww.example.test AAAA\nmail.example.test A\nnothing.example.test A\n"


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """The UDP and the TCP port of the same server."""
    with serve_calmly("examples.dns:DnsHandler", workers=2, bind=["udp://127.0.0.1:0", "tcp://127.0.0.1:0"]) as server:
        yield host_and_port(server, 0)[1], host_and_port(server, 1)[1]


def dig(port: int, *arguments: str) -> str:
    return tools.run(["dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=30", *arguments]).stdout.decode()


def test_dig_is_answered_over_udp_and_tcp(ports: tuple[int, int]) -> None:
    udp, tcp = ports

    assert dig(udp, "+short", "www.example.test", "A") == "example.test.\n192.0.2.10\n"
    assert dig(tcp, "+short", "+tcp", "www.example.test", "A") == "example.test.\n192.0.2.10\n"


def test_dig_is_told_what_does_not_exist(ports: tuple[int, int]) -> None:
    answer = dig(ports[0], "nothing.example.test", "A")

    assert "status: NXDOMAIN" in answer
    assert "AUTHORITY: 1" in answer


def test_dig_is_told_to_use_tcp_for_a_long_answer(ports: tuple[int, int]) -> None:
    udp, tcp = ports

    assert "flags: qr aa tc rd" in dig(udp, "+ignore", "long.example.test", "TXT")
    assert "ANSWER: 4" in dig(tcp, "+tcp", "long.example.test", "TXT")


def test_a_reload_reads_the_zone_again_and_refuses_a_broken_one(tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.write_text(EXAMPLE_ZONE.read_text())
    with testing.serve(
        "examples.dns:DnsHandler", bind=["udp://127.0.0.1:0"], canary_time=0, server={"zone": str(zone)}
    ) as server:
        _, port = host_and_port(server)
        zone.write_text(zone.read_text() + "new IN A 192.0.2.99\n")
        server.reload()
        assert dig(port, "+short", "new.example.test") == "192.0.2.99\n"

        zone.write_text(zone.read_text() + "broken IN A 192.0.2.999\n")
        with pytest.raises(NotDone):
            server.reload()
        assert dig(port, "+short", "new.example.test") == "192.0.2.99\n"

    assert "192.0.2.999" in server.log


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_dnsperf_loses_no_answer(ports: tuple[int, int], mode: str, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_bytes(NAMES)
    port = ports[0] if mode == "udp" else ports[1]
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-m", mode, "-d", str(names), "-n", "250", "-c", "4"]
    report = tools.run([*command, "-q", "20", "-t", "30"]).stdout.decode()

    assert "Queries completed:    1000 (100.00%)" in report
    assert "NOERROR 750 (75.00%), NXDOMAIN 250 (25.00%)" in report
