"""Signing: a keyed hash on each event that a service publishes, by which it recognizes its own.

The key belongs to an epoch of the log. Both are in one note of the service's database, where only
its own processes read them; a frame names the epoch in which it was signed.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from hmac import compare_digest
from operator import itemgetter
from typing import Protocol

from bus.common import clock
from bus.data.payload import Document
from bus.stores.control import Note
from bus.transports.base import Frame

EPOCH_DIGITS, DIGEST_BYTES = 8, 16
EPOCH_NOTE = "commits/epoch"
"""The key of the note that holds `{"epoch": ..., "key": ...}`."""
SIGNATURE = "bus-signature"
"""The header of an event that a service signed: the epoch, a dot, and the keyed hash."""
UNSIGNED = "0" * (EPOCH_DIGITS + 1 + 2 * DIGEST_BYTES)
"""A placeholder as long as a signature."""
ATTEMPT = "attempt"
"""The header of a delayed message: how often it has been tried."""
DEAD_LETTER = "dead-letter"
"""The header of a message that is retried: the dead letter that it settles."""
RETURNED = "bus-returned"
"""The header of a message that RabbitMQ dead-lettered, and that was sent to its queue again."""
WAITED = "bus-waited"
"""The header of a message that waits for another release of the code: for how many seconds."""

FED = "bus-fed"
"""The header of another service's event that came by a feed: its place there. It is signed, too."""

FIXED_HEADERS = ("stream", "version", "schema", "causation_id")
_fixed = itemgetter(*FIXED_HEADERS)
_NOT_SIGNED = frozenset({*FIXED_HEADERS, SIGNATURE, ATTEMPT, DEAD_LETTER, RETURNED, WAITED})

ROLL_OUT = timedelta(days=7)
LEARN_EVERY = 1.0

Sign = Callable[[Frame], str]


class Notes(Protocol):
    """Stores small shared records."""

    async def note(self, key: str) -> Note: ...

    async def write_note(self, note: Note) -> bool: ...


class Signing:
    """Signs the events of a service, and recognizes the frames that it signed.

    With a `secret`, which all processes of the service have, access to the database alone is not
    enough to sign.
    """

    def __init__(self, notes: Notes, secret: str = "") -> None:
        self.epoch = ""
        """The epoch of the log that this process knows; empty until `open`."""
        self._notes = notes
        self._secret = secret
        self._since = datetime.min.replace(tzinfo=UTC)
        self._keyed = blake2b(digest_size=DIGEST_BYTES)
        self._learned_at = 0.0

    async def open(self, *, makes: bool = True) -> None:
        """Reads the epoch and its key; the first process of a service makes them.

        Without `makes` it only reads: if there are none, it signs nothing and trusts nothing. Call
        it again if the epoch may have changed. Raises: StoreUnavailable, OutcomeUnknown.
        """
        note = await self._notes.note(EPOCH_NOTE)
        while not note.value and makes:
            await self._notes.write_note(note._replace(value=new_epoch()))
            note = await self._notes.note(EPOCH_NOTE)
        if not note.value:
            return
        key = bytes.fromhex(note.value["key"])
        if self._secret:
            key = blake2b(self._secret.encode(), key=key, digest_size=32).digest()
        self._keyed = blake2b(key=key, digest_size=DIGEST_BYTES)
        self.epoch = note.value["epoch"]
        self._since = datetime.fromisoformat(note.value.get("since", self._since.isoformat()))

    async def learn(self, epoch: str) -> None:
        """Reads the epoch again if `epoch` is another: another process may have begun it meanwhile.

        At most once in LEARN_EVERY seconds. Raises: StoreUnavailable, OutcomeUnknown.
        """
        if epoch in ("", self.epoch) or time.monotonic() < self._learned_at + LEARN_EVERY:
            return
        self._learned_at = time.monotonic()
        await self.open()

    def may_be_former(self, moment: datetime) -> bool:
        """Returns whether the former release may have handled something of that time: it may have
        run beside this one for a while."""
        return moment < self._since + ROLL_OUT

    def sign(self, frame: Frame) -> str:
        """Returns the signature of an event's frame, over all of it that is read.

        Empty if a field holds a NUL, which separates fields: the end of one could be taken for
        another field.
        """
        _, _, id, name, body, time, correlation_id, headers, _ = frame
        try:
            stream, version, schema, causation_id = _fixed(headers)
        except KeyError:  # not the frame of an event
            stream, version, schema, causation_id = map(headers.get, FIXED_HEADERS)
        text = (
            f"{len(body)}\0{id}\0{name}\0{correlation_id}\0{round(time.timestamp() * 1000)}\0"
            f"{stream}\0{version}\0{schema}\0{causation_id}\0"
        )
        fields = 9
        if len(headers) - (SIGNATURE in headers) != len(FIXED_HEADERS):  # rare
            for key, value in _own_headers(headers):
                text += f"{key}\0{value}\0"
                fields += 2
        if text.count("\0") != fields:
            return ""
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogatepass") + body)
        return f"{self.epoch}.{keyed.hexdigest()}"

    def verify(self, frame: Frame) -> bool:
        """Returns whether this service signed the frame, in the epoch that is known here."""
        claimed = frame.headers.get(SIGNATURE)
        if not self.epoch or not claimed or not isinstance(claimed, str) or not claimed.isascii():
            return False
        return compare_digest(self.sign(frame), claimed)

    def token(self, what: str) -> str:
        """Returns what only processes of this service can compute: it goes with a question about
        `what`, and comes back with the answer."""
        keyed = self._keyed.copy()
        keyed.update(f"question\0{what}".encode("utf-8", "surrogatepass"))
        return f"{self.epoch}.{keyed.hexdigest()}"

    async def gave(self, token: str, what: str) -> bool:
        """Returns whether a process of this service made the token, for a question about `what`.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        await self.learn(token.partition(".")[0])
        return token.isascii() and compare_digest(self.token(what), token)


def new_epoch() -> Document:
    """Returns the value of the note for a new epoch of the log."""
    return {
        "epoch": secrets.token_hex(EPOCH_DIGITS // 2),
        "key": secrets.token_hex(32),
        "since": clock.now().isoformat(),
    }


def epoch_of(frame: Frame) -> str:
    """Returns the epoch in which a frame claims to be signed; empty if it is not signed."""
    return str(frame.headers.get(SIGNATURE, "")).partition(".")[0]


def _own_headers(headers: Mapping[str, str | int]) -> list[tuple[str, str | int]]:
    """Returns the headers that are neither the bus's nor added on the way, in a fixed order."""
    return sorted((key, headers[key]) for key in headers.keys() - _NOT_SIGNED)
