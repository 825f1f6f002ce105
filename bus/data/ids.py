"""Ids that derive from others: of what follows from a message, and of streams. Pure."""

import hashlib

from bus.data.limits import DERIVED


def derived_id(seed: str) -> str:
    """Returns the id that derives from a seed, in the bus's own namespace."""
    return DERIVED + former_derived_id(seed)


def former_derived_id(seed: str) -> str:
    """Returns the id that derived from a seed in releases without their own namespace."""
    return hashlib.blake2s(seed.encode(), digest_size=16).hexdigest()


def category_of(stream: str) -> str:
    """Returns the category of a stream id: `job` for `job-0192`."""
    return stream.partition("-")[0]


def key_of(stream: str) -> str:
    """Returns the aggregate's id in a stream id: `0192` for `job-0192`."""
    return stream.partition("-")[2]
