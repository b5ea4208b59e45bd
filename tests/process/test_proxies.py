"""Real proxies in front: HAProxy, nginx and Envoy say who the client is, and handler, status and log believe them."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.addresses import free_port, host_and_port
from tests.support.application import write_application
from tests.support.authorities import Authority
from tests.support.clients import TIME_LIMIT, eventually
from tests.support.programs import running

TELLING = """

class Telling(socketserver.StreamRequestHandler):
    def handle(self):
        header = self.server.proxy_header(self.request)
        for line in self.rfile:
            word = line.decode().strip()
            if word == "who":
                told = self.client_address
            elif word == "header":
                told = header and {
                    "version": header.version,
                    "destination": header.destination,
                    "authority": header.authority,
                    "unique_id": header.unique_id and header.unique_id.decode(),
                    "ssl": header.ssl and [header.ssl.version, header.ssl.common_name, header.ssl.verified],
                }
            self.wfile.write(json.dumps(told).encode() + b"\\n")
"""


@pytest.fixture
def telling(serve: Serve, project: Path) -> Iterator[Server]:
    """A server that tells what it knows of its client, to proxies on this host only."""
    write_application(project, extra=f"\nimport json\n{TELLING}")
    with serve("app:Telling", proxy_protocol="on", trusted_proxies="127.0.0.1", log_level="debug") as server:
        yield server


class Client:
    """A client of the proxy, from an address that is not the proxy's."""

    def __init__(self, port: int, authority: Authority | None = None, certificate: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIME_LIMIT, source_address=("127.0.0.3", 0))
        self.name: tuple[str, int] = self.socket.getsockname()
        if authority is not None:
            context = authority.client_context(certificate=certificate)
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._answers = self.socket.makefile("rb")

    def ask(self, word: str) -> Any:
        self.socket.sendall(word.encode() + b"\n")
        return json.loads(self._answers.readline())

    def close(self) -> None:
        self._answers.close()
        self.socket.close()


def check_that_the_client_is_known(server: Server, port: int) -> None:
    """Look at handler and status at the same time."""
    client = Client(port)
    assert client.ask("who") == list(client.name)
    peers = [request["peer"] for worker in server.workers() for request in worker["requests"]]
    assert f"{client.name[0]}:{client.name[1]}" in peers  # beside the checks of the proxy itself
    client.close()


HAPROXY = """
global
    log stdout format raw local0
defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
{more}
listen front
    bind 127.0.0.1:{port} {bind}
    server node {host}:{node} {options}
"""


@contextmanager
def haproxy(server: Server, directory: Path, options: str, bind: str = "", more: str = "") -> Iterator[int]:
    (host, node), port = host_and_port(server), free_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(HAPROXY.format(host=host, node=node, port=port, options=options, bind=bind, more=more))
    with running(["haproxy", "-db", "-f", str(configuration)], directory, ("127.0.0.1", port)):
        yield port


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_who_the_client_is(telling: Server, project: Path, options: str) -> None:
    with haproxy(telling, project, options) as port:
        check_that_the_client_is_known(telling, port)


@pytest.mark.needs("haproxy")
def test_haproxy_tells_of_tls_with_a_checksum(telling: Server, project: Path) -> None:
    authority = Authority(project)
    authority.issue("localhost")
    certificate = authority.issue("alice@example.org", file="client.pem", common_name="alice")
    options = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,unique-id"
    bind = "ssl crt cert.pem ca-file ca.pem verify optional"
    more = "    unique-id-format id-%pid"
    with haproxy(telling, project, options, bind, more) as port:
        client = Client(port, authority, certificate)
        who, header = client.ask("who"), client.ask("header")
        client.close()

    assert who == list(client.name)
    assert header["version"] == 2
    assert header["destination"] == ["127.0.0.1", port]
    assert header["authority"] == "localhost"
    assert header["unique_id"].startswith("id-")
    assert header["ssl"] == ["TLSv1.3", "alice", True]


@pytest.mark.needs("haproxy")
def test_haproxy_speaks_tls_after_its_header(serve: Serve, project: Path) -> None:
    Authority(project).issue("localhost")
    write_application(project, extra=f"\nimport json\n{TELLING}")
    options = "send-proxy-v2 ssl verify required ca-file ca.pem verifyhost localhost"
    demanded = {"proxy_protocol": "on", "trusted_proxies": "127.0.0.1", "tls_cert": "cert.pem"}
    with serve("app:Telling", **demanded) as server, haproxy(server, project, options) as port:
        check_that_the_client_is_known(server, port)


@pytest.mark.needs("haproxy")
def test_haproxy_asks_for_itself_with_a_local_header(telling: Server, project: Path) -> None:
    more = """
    option log-health-checks
    option tcp-check
    tcp-check connect default
    tcp-check send who\\n
    tcp-check expect string 127.0.0.1
    """
    with haproxy(telling, project, "send-proxy-v2 check-send-proxy check inter 1s", more=more):
        output = project / "program.log"
        eventually(lambda: "Health check for server front/node succeeded" in output.read_text())


NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/proxy-error.log info;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{}}
stream {{
    server {{
        listen 127.0.0.1:{port};
        proxy_protocol on;
        proxy_pass {host}:{node};
    }}
}}
"""


@pytest.mark.needs("nginx")
def test_nginx_tells_who_the_client_is(telling: Server, project: Path) -> None:
    (host, node), port = host_and_port(telling), free_port()
    configuration = project / "nginx.conf"
    configuration.write_text(NGINX.format(directory=project, host=host, node=node, port=port))
    command = ["nginx", "-c", str(configuration), "-p", str(project), "-e", str(project / "proxy-error.log")]

    with running(command, project, ("127.0.0.1", port)):
        check_that_the_client_is_known(telling, port)


ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: node
          cluster: node
  clusters:
  - name: node
    type: STATIC
    connect_timeout: 30s
    load_assignment:
      cluster_name: node
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {node}}}}}}}
    transport_socket:
      name: envoy.transport_sockets.upstream_proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
        config: {{version: {version}}}
        transport_socket:
          name: envoy.transport_sockets.raw_buffer
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer
"""


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_envoy_tells_who_the_client_is(telling: Server, project: Path, version: str) -> None:
    (host, node), port = host_and_port(telling), free_port()
    configuration = project / "envoy.yaml"
    configuration.write_text(ENVOY.format(host=host, node=node, port=port, version=version))
    envoy = str(Path(sys.executable).with_name("envoy"))
    command = [envoy, "-c", str(configuration), "--concurrency", "1", "--disable-hot-restart"]

    with running(command, project, ("127.0.0.1", port)):
        check_that_the_client_is_known(telling, port)
