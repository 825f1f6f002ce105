"""Ids that derive from others: of what follows from a message, and of streams. Pure."""

import hashlib
import re
from typing import Any

from bus.data.limits import DERIVED

_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,49}")


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


def is_category(name: Any) -> bool:
    """Returns whether `name` is a valid category."""
    return isinstance(name, str) and _CATEGORY.fullmatch(name) is not None
