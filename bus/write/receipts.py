"""Receipts: what the log says became of a command, at first and when it comes again."""

from collections.abc import Sequence
from typing import Any

from bus.errors import IdConflict
from bus.messages import Envelope, Receipt
from bus.stores.event_log import Commit


def receipt_of(commits: Sequence[Commit], result: Any) -> Receipt:
    """Returns the receipt of a command whose commits are stored."""
    return Receipt(
        commits[0].id, {commit.stream: commit.last for commit in commits if commit.events}, result
    )


def receipt_of_repeat(commits: Sequence[Commit], envelope: Envelope) -> Receipt:
    """Returns the first receipt of a message that comes again.

    Raises: IdConflict if the id belongs to another message.
    """
    check_repeat(commits[0], envelope)
    return receipt_of(commits, commits[0].result)


def check_repeat(stored: Commit, envelope: Envelope) -> None:
    """Raises: IdConflict if what the log holds is not what this message did before.

    Two commands are compared by their digests, if both have one, of the same schema.
    """
    if stored.message not in envelope.message.wire_names():
        other = stored.message or "something else"
    elif stored.causation_id != envelope.id:
        other = f"what followed from {stored.causation_id}"
    elif _differ(stored.digest, envelope.digest):
        other = f"another {stored.message} (with other content)"
    else:
        return
    raise IdConflict(
        f"the id {stored.id} was used before, by {other}, and now by {envelope.name}"
        f"{'' if envelope.id == stored.id else f' {envelope.id}'}; what was stored first stands, "
        f"and of this one nothing is stored: a repeat has the same content, any other message an "
        f"id of its own"
    )


def _differ(stored: str, own: str) -> bool:
    same_schema = stored.partition(":")[0] == own.partition(":")[0]
    return bool(stored) and bool(own) and same_schema and stored != own
