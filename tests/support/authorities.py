"""Certificates for tests, of an authority made for the occasion."""

import datetime
import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues certificates into a directory, and makes contexts that trust them."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        self.file = str(directory / "ca.pem")
        self._authority.cert_pem.write_to_path(self.file)

    def issue(
        self, *names: str, file: str = "cert.pem", valid: range | None = None, common_name: str | None = None
    ) -> str:
        """Write key and certificate into one file, all at once, and return its path. `valid` are years."""
        begin, end = (datetime.datetime(year, 1, 1) for year in (valid[0], valid[-1] + 1)) if valid else (None, None)
        issued = self._authority.issue_cert(*names, common_name=common_name, not_after=end, not_before=begin)
        path, fresh = self._directory / file, self._directory / f"{file}.new"
        fresh.touch(0o600)
        fresh.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        fresh.replace(path)
        return str(path)

    def client_context(self, *, certificate: str = "") -> ssl.SSLContext:
        """A context that trusts this authority, and shows a certificate if one is given."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate:
            context.load_cert_chain(certificate)
        return context
