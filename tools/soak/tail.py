"""Tail: counts, while a ledger is being written, what stands in it so far."""

from pathlib import Path

ACCEPTED = b'{"accepted"'


class Tail:
    """How many commands a ledger says were accepted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._accepted = 0

    @property
    def accepted(self) -> int:
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._accepted += (whole + newline).count(ACCEPTED)
        return self._accepted
