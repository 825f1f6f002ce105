"""Certificates of TLS, made for a run of tests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import trustme

HERE = "127.0.0.1"
THEN, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)


class Certificates(NamedTuple):
    """Files: two authorities, and what the first of them signed."""

    authority: Path
    stranger: Path
    server: Path
    client: Path
    expired: Path


def made_in(folder: Path) -> Certificates:
    """Certificates in files of a folder."""
    authority, stranger = trustme.CA(), trustme.CA()
    for name, one in (("authority", authority), ("stranger", stranger)):
        one.cert_pem.write_to_path(folder / name)
    for name, leaf in (
        ("server", authority.issue_cert(HERE)),
        ("client", authority.issue_cert("client@example.org")),
        ("expired", authority.issue_cert(HERE, not_before=THEN, not_after=LATER)),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / name)
    return Certificates(*(folder / field for field in Certificates._fields))


class Authority:
    """Signs certificates, which it puts into files of a folder; `file` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._signs = trustme.CA()
        self.file = folder / name
        self._signs.cert_pem.write_to_path(self.file)

    def server(self) -> Path:
        """The certificate, and the key, of what listens here."""
        return self._written("server", self._signs.issue_cert(HERE))

    def client(self, common_name: str, *, expired: bool = False) -> Path:
        """The certificate, and the key, of a user of that name."""
        leaf = self._signs.issue_cert(
            f"{common_name}@example.org",
            common_name=common_name,
            not_before=THEN if expired else None,
            not_after=LATER if expired else None,
        )
        return self._written(f"{self.file.name} {common_name}", leaf)

    def _written(self, name: str, leaf: trustme.LeafCert) -> Path:
        file = self._folder / name.replace(" ", "-")
        leaf.private_key_and_cert_chain_pem.write_to_path(file)
        return file
