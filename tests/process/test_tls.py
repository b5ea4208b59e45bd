"""TLS in front of a handler, with real clients: what they see, across workers and reloads, and what is refused."""

import json
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefork.errors import NotDone
from prefork.testing import Address, Server, ServerFailed
from tests.process.conftest import Serve
from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.application import write_application
from tests.support.authorities import Authority
from tests.support.clients import TIME_LIMIT, connect, eventually

ONCE = """

class Once(socketserver.StreamRequestHandler):
    def handle(self):
        word = self.rfile.readline().decode().strip()
        certificate = self.request.getpeercert() or {}
        names = [value for kind, value in certificate.get("subjectAltName", ())]
        answers = {
            "slot": os.environ["PREFORK_WORKER_SLOT"],
            "alpn": self.request.selected_alpn_protocol(),
            "client": ",".join(names) or "nobody",
        }
        self.wfile.write(f"answer: {answers[word]}\\n".encode())


class OwnLoop(socketserver.ThreadingTCPServer):
    RequestHandlerClass = Handler
"""


@pytest.fixture
def authority(project: Path) -> Authority:
    authority = Authority(project)
    authority.issue("localhost", "example.org")
    write_application(project, extra=ONCE)
    return authority


def talk(address: Address, authority: Authority, host: str = "localhost") -> ssl.SSLSocket:
    return authority.client_context().wrap_socket(connect(address), server_hostname=host)


def ask(client: ssl.SSLSocket, line: str) -> str:
    client.sendall(line.encode() + b"\n")
    return client.recv(100).decode().strip()


def ask_once(address: Address, authority: Authority, line: str = "version", host: str = "localhost") -> str:
    with talk(address, authority, host) as client:
        return ask(client, line)


def s_client(address: tuple[str, int], word: str, *options: str) -> str:
    """Ask one word with OpenSSL's own client, and return all that it says."""
    command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-ign_eof", *options]
    done = subprocess.run(command, input=word + "\n", capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    return done.stdout + done.stderr


def answer_in(said: str) -> str:
    return said.partition("answer: ")[2].partition("\n")[0]


def busy_slots(server: Server) -> list[int]:
    return [worker["slot"] for worker in server.workers() if worker["threads_busy"]]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_goes_on_in_another_worker(serve: Serve, authority: Authority, project: Path, version: str) -> None:
    session = str(project / "session")
    with serve("app:Once", tls_cert="cert.pem", threads=1, handshake_timeout=60) as server:
        address = host_and_port(server)
        with connect(address) as holder:  # of the only thread of one worker, in its handshake
            eventually(lambda: len(busy_slots(server)) == 1)
            first = s_client(address, "slot", version, "-sess_out", session)
            eventually(lambda: len(busy_slots(server)) == 1)
            with connect(address):  # and then of the other's
                eventually(lambda: len(busy_slots(server)) == 2)
                holder.close()
                eventually(lambda: busy_slots(server) == [int(answer_in(first))])
                second = s_client(address, "slot", version, "-sess_in", session)

    assert "New, TLSv1" in first
    assert "Reused, TLSv1" in second
    assert {answer_in(first), answer_in(second)} == {"0", "1"}


@pytest.mark.needs("openssl")
def test_the_certificate_is_chosen_by_the_name_that_the_client_asks_for(serve: Serve, authority: Authority) -> None:
    authority.issue("*.shop.org", "shop.net", file="shop.pem")
    with serve("app:Once", tls_cert=["cert.pem", "shop.pem"]) as server:
        shown = {
            host: re.findall(r"DNS:[^,\s]+", _certificate_shown(host_and_port(server), host))
            for host in ("example.org", "a.shop.org", "SHOP.NET", "a.b.shop.org", "elsewhere.org", "")
        }

    ours, shop = ["DNS:localhost", "DNS:example.org"], ["DNS:*.shop.org", "DNS:shop.net"]
    assert shown == {
        "example.org": ours,
        "a.shop.org": shop,
        "SHOP.NET": shop,
        "a.b.shop.org": ours,
        "elsewhere.org": ours,
        "": ours,
    }


@pytest.mark.needs("openssl")
def test_a_host_name_that_is_no_text_is_refused_like_any_failed_handshake(serve: Serve, authority: Authority) -> None:
    authority.issue("shop.net", file="shop.pem")
    with serve("app:Once", tls_cert=["cert.pem", "shop.pem"]) as server:
        said = s_client(host_and_port(server), "slot", "-servername", "sh\xf6p.net")
        eventually(lambda: server.status()["totals"]["refused"] == 1)
        server.stop()

    assert "answer" not in said
    assert "UnicodeDecodeError" not in server.log


def _certificate_shown(address: tuple[str, int], host: str) -> str:
    said = s_client(address, "slot", *(["-servername", host] if host else ["-noservername"]))
    return tools.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], stdin=said.encode()).stdout.decode()


@pytest.mark.needs("openssl")
def test_a_protocol_is_agreed_on_by_alpn(serve: Serve, authority: Authority) -> None:
    with serve("app:Once", tls_cert="cert.pem", tls_alpn=["xmpp", "imap"]) as server:
        address = host_and_port(server)

        assert answer_in(s_client(address, "alpn", "-alpn", "pop3,imap,xmpp")) == "xmpp"
        assert answer_in(s_client(address, "alpn", "-alpn", "pop3")) == "None"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(("options", "refused"), [({}, ["-tls1_1"]), ({"tls_min_version": "1.3"}, ["-tls1_2"])])
def test_an_older_version_is_refused(serve: Serve, authority: Authority, options: Any, refused: list[str]) -> None:
    with serve("app:Once", tls_cert="cert.pem", **options) as server:
        said = s_client(host_and_port(server), "slot", *refused, "-cipher", "ALL:@SECLEVEL=0")
        eventually(lambda: server.status()["totals"]["refused"] == 1)

    assert "answer" not in said
    assert "alert protocol version" in said


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("verify", "shown", "answer"),
    [
        ("none", "client.pem", "nobody"),
        ("optional", "", "nobody"),
        ("optional", "client.pem", "alice@example.org"),
        ("required", "client.pem", "alice@example.org"),
        ("required", "", ""),
        ("optional", "foreign.pem", ""),
        ("required", "foreign.pem", ""),
    ],
)
def test_clients_are_known_by_their_certificates(
    serve: Serve, authority: Authority, tmp_path_factory: pytest.TempPathFactory, verify: str, shown: str, answer: str
) -> None:
    files = {
        "client.pem": authority.issue("alice@example.org", file="client.pem"),
        "foreign.pem": Authority(tmp_path_factory.mktemp("foreign")).issue("mallory@example.org"),
        "": "",
    }
    with serve("app:Once", tls_cert="cert.pem", tls_ca="ca.pem", tls_verify=verify) as server:
        said = s_client(host_and_port(server), "client", *(["-cert", files[shown]] if shown else []))

    assert answer_in(said) == answer


def test_a_client_that_breaks_its_tls_is_lost_and_no_failure_of_the_handler(serve: Serve, authority: Authority) -> None:
    with serve(tls_cert="cert.pem") as server:
        with talk(server.address, authority) as client:
            assert ask(client, "version") == "1"
            with socket.socket(fileno=client.detach()) as below:
                below.sendall(b"no record of TLS")

        assert "peer=127.0.0.1:" in server.wait_for_log("connection lost: SSLError; connection closed")


@pytest.mark.needs("curl")
def test_curl_fetches_a_file_over_https(serve: Serve, authority: Authority, project: Path) -> None:
    (project / "page").write_text("the page\n" * 20000)
    with serve("http.server:SimpleHTTPRequestHandler", tls_cert="cert.pem") as server:
        port = host_and_port(server)[1]
        resolve = f"example.org:{port}:127.0.0.1"
        page = f"https://example.org:{port}/page"
        done = tools.run(["curl", "-sS", "--fail", "--cacert", authority.file, "--resolve", resolve, page, page])

    assert done.stdout.decode() == "the page\n" * 40000


def test_a_listener_may_be_left_in_clear_text(serve: Serve, authority: Authority, project: Path) -> None:
    binds = ["tcp://127.0.0.1:0", "tcp://127.0.0.2:0?tls=off", f"unix:{project}/socket"]
    with serve(bind=binds, tls_cert="cert.pem") as server:
        encrypted, clear, unix = server.addresses

        assert ask_once(encrypted, authority) == "1"
        assert ask_once(unix, authority) == "1"
        with connect(clear) as client:
            client.sendall(b"version\n")
            assert client.recv(100) == b"1\n"


def test_a_reload_shows_a_renewed_certificate(serve: Serve, authority: Authority) -> None:
    with serve(tls_cert="cert.pem") as server:
        with talk(server.address, authority) as before:
            authority.issue("localhost", "renewed.org")
            server.reload()

            assert ask_once(server.address, authority, host="renewed.org") == "1"
            assert ask(before, "version") == "1"
        assert [one["names"] for one in server.status()["certificates"]] == [["localhost", "renewed.org"]]


@pytest.mark.fault("broken-certificate")
@pytest.mark.parametrize("broken", ["junk", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_broken_certificate_fails_the_reload_and_the_old_one_stays(
    serve: Serve, authority: Authority, project: Path, broken: str
) -> None:
    with serve(tls_cert="cert.pem") as server:
        (project / "cert.pem").write_text(broken)

        with pytest.raises(NotDone, match=r"cannot use tls_cert .*cert.pem: it holds no PEM certificate"):
            server.reload()

        assert ask_once(server.address, authority, host="example.org") == "1"
        assert server.status()["last_reload"]["ok"] is False


@pytest.mark.fault("broken-certificate")
def test_a_key_of_another_certificate_fails_the_reload(serve: Serve, authority: Authority, project: Path) -> None:
    (project / "key.pem").write_bytes((project / "cert.pem").read_bytes())
    (project / "key.pem").chmod(0o600)
    with serve(tls_cert="cert.pem", tls_key="key.pem") as server:
        authority.issue("localhost")

        with pytest.raises(NotDone, match=r"cannot use tls_key .*key.pem: the key is not that of the certificate"):
            server.reload()

        assert ask_once(server.address, authority, host="example.org") == "1"


def test_a_reload_may_begin_and_end_encryption(serve: Serve, authority: Authority, project: Path) -> None:
    configuration = project / "prefork.toml"
    with socket.create_server(("127.0.0.1", 0)) as listener:  # an address that does not change with its options
        binds = f"fd://{listener.fileno()}"
        configuration.write_text(f'bind = ["{binds}"]\n')
        with serve(bind=[], pass_descriptors=[listener.fileno()], canary_time=0) as server:
            address = listener.getsockname()
            configuration.write_text(f'bind = ["{binds}?tls=on"]\ntls_cert = "cert.pem"\n')
            server.reload()
            assert ask_once(address, authority) == "1"

            configuration.write_text(f'bind = ["{binds}?tls=off"]\ntls_cert = "cert.pem"\n')
            server.reload()
            with connect(address) as client:
                client.sendall(b"version\n")
                assert client.recv(100) == b"1\n"


def test_a_reload_may_begin_encryption_at_every_socket_of_a_place(
    serve: Serve, authority: Authority, project: Path
) -> None:
    configuration = project / "prefork.toml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    place = f"{host}:{port}?sockets=4"
    configuration.write_text(f'bind = ["{place}&tls=off"]\ntls_cert = "cert.pem"\n')
    with serve(bind=[], canary_time=0) as server:
        configuration.write_text(f'bind = ["{place}&tls=on"]\ntls_cert = "cert.pem"\n')
        server.reload()

        assert {ask_once((host, port), authority) for _ in range(40)} == {"1"}


def test_the_status_tells_of_each_certificate(serve: Serve, authority: Authority) -> None:
    authority.issue("old.org", file="old.pem", valid=range(2019, 2020))
    with serve(tls_cert=["cert.pem", "old.pem"]) as server:
        warning = server.wait_for_log("expired on 2020-01-01")
        certificates = server.status()["certificates"]

    assert "WARN" in warning
    assert "old.pem" in warning
    assert [one["names"] for one in certificates] == [["localhost", "example.org"], ["old.org"]]
    assert certificates[1]["not_after"] == 1577836800


def test_a_key_that_everybody_can_read_is_warned_about(serve: Serve, authority: Authority, project: Path) -> None:
    (project / "cert.pem").chmod(0o644)

    with serve(tls_cert="cert.pem") as server:
        assert "chmod o-r" in server.wait_for_log("can be read by everybody")


@pytest.mark.parametrize("options", [{"tls_cert": "cert.pem"}, {"proxy_protocol": "on", "trusted_proxies": "unix"}])
def test_a_server_with_its_own_loop_does_not_start_without_what_was_asked_for(
    serve: Serve, authority: Authority, options: Any
) -> None:
    with serve("app:OwnLoop", wait_until_ready=False, **options) as server:
        assert server.wait() == 3
        assert "OwnLoop accepts with its own loop and cannot have" in server.log


def test_a_server_with_its_own_loop_serves_the_listeners_that_do_without(serve: Serve, authority: Authority) -> None:
    with serve("app:OwnLoop", bind=["tcp://127.0.0.1:0?tls=off"], tls_cert="cert.pem") as server:
        with connect(server.address) as client:
            client.sendall(b"version\n")
            assert client.recv(100) == b"1\n"


def test_a_check_refuses_such_a_server_too(project: Path, authority: Authority) -> None:
    command = [sys.executable, "-m", "prefork", "check", "app:OwnLoop", "--tls-cert", "cert.pem", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, timeout=TIME_LIMIT, check=False)

    assert done.returncode == 3
    assert "cannot have TLS, which tcp://127.0.0.1:9999 demands" in json.loads(done.stdout)["error"]


def test_a_stop_says_the_end_of_open_tls_connections(serve: Serve, authority: Authority) -> None:
    with serve(tls_cert="cert.pem", drain_timeout=0.2) as server:
        with talk(server.address, authority) as client:
            assert ask(client, "version") == "1"

            assert server.stop() == 0
            assert client.recv(1) == b""


def test_a_first_start_with_a_broken_certificate_fails(serve: Serve, authority: Authority, project: Path) -> None:
    (project / "cert.pem").write_text("junk")

    with pytest.raises(ServerFailed, match="cannot use tls_cert"), serve(tls_cert="cert.pem"):
        pass
