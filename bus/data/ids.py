"""Ids that follow from others: of what follows from a message, and of streams. Pure."""

import hashlib

from bus.data.limits import DERIVED


def derived_id(seed: str) -> str:
    """The id that follows from a seed, in the space that is the bus's own."""
    return DERIVED + former_derived_id(seed)


def former_derived_id(seed: str) -> str:
    """The id that followed from a seed in releases that kept no space of their own."""
    return hashlib.blake2s(seed.encode(), digest_size=16).hexdigest()


def category_of(stream: str) -> str:
    """The category of a stream id: `job` for `job-0192`."""
    return stream.partition("-")[0]


def key_of(stream: str) -> str:
    """The aggregate's id in a stream id: `0192` for `job-0192`."""
    return stream.partition("-")[2]
