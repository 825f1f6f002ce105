"""Which failures are the same: what an error was, where it was raised, and a short name for both.

Knows nothing of messages, or of what stores the answer.
"""

import hashlib
import traceback
from pathlib import PurePath
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bus.common.exceptions import leaves


class Failure(NamedTuple):
    """What is stored of an error. `frames` are where it was raised, innermost last.

    `fingerprint` is the same for all failures with the same message, handler and type of error,
    raised in the same functions. Line numbers and the reason may differ.
    """

    error: str
    reason: str
    frames: tuple[str, ...]
    fingerprint: str


def failure_of(error: BaseException, message: str, handler: str) -> Failure:
    """Returns the failure for an error that one message raised in one handler."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    files = [PurePath(frame.filename).name for frame in frames]
    kind = type(error).__name__
    places = [f"{file} {frame.name}" for file, frame in zip(files, frames, strict=True)]
    same = "\n".join((message, handler, kind, *places))
    return Failure(
        kind,
        reason_of(error),
        tuple(
            f"{file}:{frame.lineno} {frame.name}" for file, frame in zip(files, frames, strict=True)
        ),
        hashlib.blake2s(storable(same).encode(), digest_size=5).hexdigest(),
    )


def reason_of(error: BaseException, most: int = 5) -> str:
    """Returns what an error says, as text that can be stored; at most 2,000 characters, and `most`
    reasons. Never raises.

    For a validation error: places and mistakes, without the values found there.
    """
    try:
        return storable(_words(error, most)[:2000])
    except Exception:  # an author's exception may fail in __str__
        return ""


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says."""
    return reason_of(error).partition("\n")[0]


def _words(error: BaseException, most: int) -> str:
    if isinstance(error, ValidationError):
        return _mistakes(error, most)
    if not isinstance(error, BaseExceptionGroup):
        return str(error)
    words = [f"{type(leaf).__name__}: {reason_of(leaf, most)}" for leaf in leaves(error)]
    more = f" (and {len(words) - most} more)" if len(words) > most else ""
    return f"{'; '.join(words[:most])}{more}"


def _mistakes(error: ValidationError, most: int) -> str:
    details = error.errors(include_input=False, include_url=False, include_context=False)
    words = [": ".join(filter(None, (_path(item), _said(item)))) for item in details[:most]]
    more = f" (and {len(details) - most} more)" if len(details) > most else ""
    return f"{'; '.join(words)}{more}"


def _path(detail: ErrorDetails) -> str:
    return ".".join(map(str, detail["loc"]))


def _said(detail: ErrorDetails) -> str:
    return "an unknown tag" if detail["type"] == "union_tag_invalid" else detail["msg"]


def storable(text: str) -> str:
    """Returns the text with what UTF-8 cannot encode escaped."""
    return text.encode(errors="backslashreplace").decode()
