"""Addresses of a test's server in the form that a client wants."""

from prefork.testing import Server


def host_and_port(server: Server, index: int = 0) -> tuple[str, int]:
    address = server.addresses[index]
    assert isinstance(address, tuple), f"{address} is the path of a Unix socket"
    return address
