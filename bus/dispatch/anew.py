"""Copies a message for another try of its handler, which may have changed its lists. Pure."""

from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from bus.messages import Envelope

UNCHANGING = frozenset({str, int, float, bool, bytes, type(None), date, datetime, Decimal, UUID})


def anew(envelope: Envelope) -> Envelope:
    """Returns an envelope with a copy of the message, or the same one if the message cannot change
    or cannot be copied."""
    message = envelope.message
    if message.wire_flat:
        return envelope
    has_more = message.__pydantic_extra__ or message.__pydantic_private__
    if not has_more and all(type(value) in UNCHANGING for value in message.__dict__.values()):
        return envelope
    with suppress(Exception):  # an author's types may raise anything
        return envelope._replace(message=message.model_copy(deep=True))
    return envelope
