"""Signing: a keyed hash on each event that a service publishes, by which it knows its own.

The key belongs to an epoch of the log. Both stand in one note of the service's database, where only
its own processes read them; a frame names the epoch that it was signed in.
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
"""As long as a signature."""
ATTEMPT = "attempt"
"""The header of a message on the delay ladder: how often it has been tried."""
DEAD_LETTER = "dead-letter"
"""The header of a message that is retried: which dead letter it is to settle."""
RETURNED = "bus-returned"
"""The header of a message that RabbitMQ gave up, and that was sent to its queue once more."""
WAITED = "bus-waited"
"""The header of a message that waits for another release of the code: the seconds so far."""

FIXED_HEADERS = ("stream", "version", "schema", "causation_id")
_fixed = itemgetter(*FIXED_HEADERS)
_NOT_SIGNED = frozenset({*FIXED_HEADERS, SIGNATURE, ATTEMPT, DEAD_LETTER, RETURNED, WAITED})

ROLL_OUT = timedelta(days=7)
LEARN_EVERY = 1.0

Sign = Callable[[Frame], str]


class Notes(Protocol):
    """Where small shared records are kept."""

    async def note(self, key: str) -> Note: ...

    async def write_note(self, note: Note) -> bool: ...


class Signing:
    """Signs the events of a service, and tells which frames it signed.

    With a `secret`, which all processes of the service are given, the database alone is not enough
    to sign.
    """

    def __init__(self, notes: Notes, secret: str = "") -> None:
        self.epoch = ""
        """The epoch of the log that this process knows of; empty until it is opened."""
        self._notes = notes
        self._secret = secret
        self._since = datetime.min.replace(tzinfo=UTC)
        self._keyed = blake2b(digest_size=DIGEST_BYTES)
        self._learned_at = 0.0

    async def open(self, *, makes: bool = True) -> None:
        """Reads the epoch and its key; the first process of a service makes them, unless it only
        looks (without `makes`): where there are none it signs nothing, and believes nothing.

        To be called again where the epoch may have changed. Raises: StoreUnavailable,
        OutcomeUnknown.
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
        """To be called with an epoch that something names, which another process may have begun
        meanwhile. Raises: StoreUnavailable, OutcomeUnknown."""
        if epoch in ("", self.epoch) or time.monotonic() < self._learned_at + LEARN_EVERY:
            return
        self._learned_at = time.monotonic()
        await self.open()

    def may_be_former(self, moment: datetime) -> bool:
        """Whether something of that time may have been handled by a release before this one, which
        may have run beside it for a while."""
        return moment < self._since + ROLL_OUT

    def sign(self, frame: Frame) -> str:
        """The signature of an event's frame, over all that is read of it.

        Empty where a field holds what parts them: the end of one might be read as another.
        """
        _, _, id, name, body, time, correlation_id, headers, _ = frame
        try:
            stream, version, schema, causation_id = _fixed(headers)
        except KeyError:  # it is no event's frame
            stream, version, schema, causation_id = map(headers.get, FIXED_HEADERS)
        text = (
            f"{len(body)}\0{id}\0{name}\0{correlation_id}\0{round(time.timestamp() * 1000)}\0"
            f"{stream}\0{version}\0{schema}\0{causation_id}\0"
        )
        fields = 9
        if len(headers) - (SIGNATURE in headers) != len(FIXED_HEADERS):  # seldom
            for key, value in _own_headers(headers):
                text += f"{key}\0{value}\0"
                fields += 2
        if text.count("\0") != fields:
            return ""
        keyed = self._keyed.copy()
        keyed.update(text.encode("utf-8", "surrogatepass") + body)
        return f"{self.epoch}.{keyed.hexdigest()}"

    def verify(self, frame: Frame) -> bool:
        """Whether this service signed the frame, in the epoch that is known here."""
        claimed = frame.headers.get(SIGNATURE)
        if not self.epoch or not claimed or not isinstance(claimed, str) or not claimed.isascii():
            return False
        return compare_digest(self.sign(frame), claimed)

    def token(self, what: str) -> str:
        """What only processes of this service can say: goes with a question about that, and comes
        back with the answer."""
        keyed = self._keyed.copy()
        keyed.update(f"question\0{what}".encode("utf-8", "surrogatepass"))
        return f"{self.epoch}.{keyed.hexdigest()}"

    async def gave(self, token: str, what: str) -> bool:
        """Whether a process of this service gave that token with a question about that.

        Raises: StoreUnavailable, OutcomeUnknown.
        """
        await self.learn(token.partition(".")[0])
        return token.isascii() and compare_digest(self.token(what), token)


def new_epoch() -> Document:
    """The value of a note that begins another epoch of the log."""
    return {
        "epoch": secrets.token_hex(EPOCH_DIGITS // 2),
        "key": secrets.token_hex(32),
        "since": clock.now().isoformat(),
    }


def epoch_of(frame: Frame) -> str:
    """The epoch that a frame claims to be signed in; empty where it is not signed."""
    return str(frame.headers.get(SIGNATURE, "")).partition(".")[0]


def _own_headers(headers: Mapping[str, str | int]) -> list[tuple[str, str | int]]:
    """The headers that are neither the bus's own nor added on the way, in a fixed order."""
    return sorted((key, headers[key]) for key in headers.keys() - _NOT_SIGNED)
