"""Anew: a message as it was, for another try of a handler that may have changed its lists. Pure."""

from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from bus.messages import Envelope

UNCHANGING = frozenset({str, int, float, bool, bytes, type(None), date, datetime, Decimal, UUID})


def anew(envelope: Envelope) -> Envelope:
    """With a copy of its message; as it is, where that cannot change, or cannot be copied."""
    message = envelope.message
    if message.wire_flat:
        return envelope
    has_more = message.__pydantic_extra__ or message.__pydantic_private__
    if not has_more and all(type(value) in UNCHANGING for value in message.__dict__.values()):
        return envelope
    with suppress(Exception):  # an author's types may refuse in any way
        return envelope._replace(message=message.model_copy(deep=True))
    return envelope
