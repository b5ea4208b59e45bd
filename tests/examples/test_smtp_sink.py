import smtplib
from contextlib import AbstractContextManager
from pathlib import Path
from signal import SIGTERM

from prefork import testing
from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.serving import serve_calmly


def serve(maildir: Path) -> AbstractContextManager[testing.Server]:
    return serve_calmly(
        "examples.smtp_sink:SmtpHandler", workers=2, bind=["tcp://127.0.0.1:0"], server={"maildir": str(maildir)}
    )


def test_a_mail_from_swaks_is_stored(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        host, port = host_and_port(server)
        envelope = ["--from", "ann@example.com", "--to", "ben@example.com,eve@example.com"]
        tools.run(["swaks", "--server", host, "--port", str(port), *envelope, "--body", "first\n.second"])

    (message,) = (tmp_path / "new").iterdir()
    assert message.read_bytes().startswith(
        b"Return-Path: <ann@example.com>\r\nDelivered-To: ben@example.com\r\nDelivered-To: eve@example.com\r\n"
    )
    assert b"\r\nfirst\r\n.second\r\n" in message.read_bytes()


def test_a_client_between_two_mails_is_told_that_the_server_stops(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with smtplib.SMTP(*host_and_port(server), timeout=30) as client:
            client.sendmail("ann@example.com", "ben@example.com", "first\r\n")
            server.signal(SIGTERM)
            code, text = client.getreply()
            client.close()
        server.wait()

    assert (code, text) == (421, b"this server is closing, please come again")


def test_a_mail_under_way_is_stored_before_the_server_stops(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with smtplib.SMTP(*host_and_port(server), timeout=30) as client:
            client.ehlo()
            client.mail("ann@example.com")
            server.signal(SIGTERM)
            assert client.rcpt("ben@example.com")[0] == 250
            assert client.data("first\r\n")[0] == 250
            assert client.getreply()[0] == 421
            client.close()
        server.wait()

    assert len(list((tmp_path / "new").iterdir())) == 1
