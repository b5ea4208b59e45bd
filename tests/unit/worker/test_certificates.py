"""Certificates are read with their keys, or the error says which file is wrong, why, and what to do."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefork.config.settings import Settings
from prefork.errors import ApplicationError
from prefork.worker.certificates import load_tls
from tests.support import tools
from tests.support.authorities import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(**options: Any) -> Settings:
    given: dict[str, Any] = {
        name: (value,) if name in ("tls_cert", "tls_key") else value for name, value in options.items()
    }
    return Settings(**given)


def openssl(*words: str) -> None:
    tools.run(["openssl", *words])


def test_a_certificate_tells_its_names_and_its_end(authority: Authority) -> None:
    file = authority.issue("example.org", "127.0.0.1", valid=range(2019, 2020))

    tls = load_tls(settings(tls_cert=file))

    (certificate,) = tls.certificates
    assert (certificate.file, certificate.names, certificate.not_after) == (
        file,
        ["example.org", "127.0.0.1"],
        1577836800,
    )
    assert [warning.partition("; ")[0] for warning in tls.warnings] == [f"tls_cert: {file} expired on 2020-01-01"]


def test_a_certificate_of_the_future_is_doubted(authority: Authority) -> None:
    file = authority.issue("example.org", valid=range(2100, 2101))

    (warning,) = load_tls(settings(tls_cert=file)).warnings
    assert warning == f"tls_cert: {file} is not valid before 2100-01-01; clients will refuse it until then"


@pytest.mark.needs("openssl")
def test_a_certificate_without_alternative_names_has_its_common_name(tmp_path: Path) -> None:
    key, file = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", file, "-subj", "/O=we/CN=plain.org"
    )

    assert load_tls(settings(tls_cert=file, tls_key=key)).certificates[0].names == ["plain.org"]


def test_a_key_for_everybody_is_doubted(authority: Authority) -> None:
    file = authority.issue("a.org")
    Path(file).chmod(0o604)

    assert load_tls(settings(tls_cert=file)).warnings == [
        f"tls_cert: the private key in {file} can be read by everybody; chmod o-r {file}"
    ]


@pytest.mark.parametrize("text", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cert.pem"
    file.write_text(text)

    with pytest.raises(ApplicationError, match=f"cannot use tls_cert {file}: it holds no PEM certificate"):
        load_tls(settings(tls_cert=str(file)))


def test_a_missing_file_is_refused_in_the_words_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError, match=r"cannot use tls_cert .*: no such file or directory"):
        load_tls(settings(tls_cert=str(tmp_path / "cert.pem")))


@pytest.mark.needs("openssl")
def test_a_certificate_alone_asks_for_its_key(authority: Authority, tmp_path: Path) -> None:
    alone = str(tmp_path / "alone.pem")
    openssl("x509", "-in", authority.issue("a.org"), "-out", alone)

    with pytest.raises(ApplicationError, match=f"cannot use tls_cert {alone}: it holds no PEM private key; give its f"):
        load_tls(settings(tls_cert=alone))


@pytest.mark.parametrize("text", ["", "junk"])
def test_a_file_without_a_key_is_refused(authority: Authority, tmp_path: Path, text: str) -> None:
    key = tmp_path / "key.pem"
    key.write_text(text)

    with pytest.raises(ApplicationError, match=f"cannot use tls_key {key}: it holds no PEM private key$"):
        load_tls(settings(tls_cert=authority.issue("a.org"), tls_key=str(key)))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("kind", [["rsa"], ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]])
def test_the_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path, kind: list[str]) -> None:
    key = str(tmp_path / "key.pem")
    openssl("genpkey", "-algorithm", *kind, "-out", key)

    with pytest.raises(ApplicationError, match=f"cannot use tls_key {key}: the key is not that of the certificate"):
        load_tls(settings(tls_cert=authority.issue("a.org"), tls_key=key))


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("form", [[], ["-traditional"]])
def test_an_encrypted_key_is_refused_without_asking(authority: Authority, tmp_path: Path, form: list[str]) -> None:
    file, key = authority.issue("a.org"), str(tmp_path / "key.pem")
    openssl("pkey", "-in", file, "-aes256", "-passout", "pass:secret", *form, "-out", key)
    program = (
        "from prefork.config.settings import Settings; from prefork.worker.certificates import load_tls; "
        f"load_tls(Settings(tls_cert=({file!r},), tls_key=({key!r},)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert f"cannot use tls_key {key}: the key is encrypted" in done.stderr
    assert f"openssl pkey -in {key} -out NEW" in done.stderr
    assert "pass phrase" not in done.stderr + done.stdout


def test_a_file_without_authorities_is_refused(authority: Authority, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()

    with pytest.raises(ApplicationError, match=f"cannot use tls_ca {empty}: it holds no PEM certificate"):
        load_tls(settings(tls_cert=authority.issue("a.org"), tls_ca=str(empty), tls_verify="required"))


def test_unknown_ciphers_are_refused(authority: Authority) -> None:
    complaint = "cannot use tls_ciphers ROT13: OpenSSL knows none of them; see `openssl ciphers`"
    with pytest.raises(ApplicationError, match=re.escape(complaint)):
        load_tls(settings(tls_cert=authority.issue("a.org"), tls_ciphers="ROT13"))
