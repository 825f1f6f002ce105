"""What an answer of a search engine means, and which of our errors that is.

Closed lists say what is about a document, and what an engine that is in trouble says; all else is
an outage, which passes, and never a dead letter. Engines quote what they refuse, so that of their
words only those are shown that can hold no values: kinds of errors, and names and types of fields.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import ClientConnectorError
from opensearchpy.exceptions import (
    ConnectionError as NoConnection,
)
from opensearchpy.exceptions import (
    ConnectionTimeout,
    SSLError,
    TransportError,
)

from bus.common.urls import ENCODED
from bus.errors import (
    BusError,
    ConfigurationError,
    NotAllowed,
    OutcomeUnknown,
    ProjectionError,
    StoreUnavailable,
)

TOO_LARGE = 413
CONFLICT = 409
ABSENT = 404
EXISTS = "resource_already_exists_exception"

_ABOUT_DOCUMENTS = frozenset(
    {
        "document_parsing_exception",
        "illegal_argument_exception",
        "invalid_index_name_exception",
        "mapper_exception",
        "mapper_parsing_exception",
        "max_bytes_length_exceeded_exception",
        "parsing_exception",
        "strict_dynamic_mapping_exception",
        "x_content_parse_exception",
    }
)
"""Kinds of errors with status 400 that say what is wrong with a document."""
_BLOCKED = "cluster_block_exception"
_GONE = "index_not_found_exception"
_UNKNOWN_USER = 401
_DENIED = 403
_CUT_SHORT = frozenset({500, 502, 504})
"""Statuses that do not say what was written."""

_REASONS = (
    r"failed to parse field \[[^\]]{1,200}\] of type \[\w+\]",
    r"mapping set to strict, dynamic introduction of \[[^\]]{1,200}\] within \[[^\]]{1,200}\] is "
    r"not allowed",
    r"object mapping for \[[^\]]{1,200}\] tried to parse field \[[^\]]{1,200}\] as object, but "
    r"found a concrete value",
    r"Document contains at least one immense term in field=\"[^\"]{1,200}\" \(whose UTF-?8 "
    r"encoding is longer than the max length \d+\)",
    r"Limit of total fields \[\d+\] has been exceeded",
    r"Limit of mapping depth \[\d+\] has been exceeded",
    r"The number of nested documents has exceeded the allowed limit of \[\d+\]",
    r"id is too long, must be no longer than \d+ bytes",
    r"index \[[^\]]{1,255}\] blocked by: \[[^\]\[]{1,200}(\[[^\]]{1,100}\])?[^\]\[]{0,100}\]",
    r"no such index \[[^\]]{1,255}\]",
    r"[Uu]nknown (analyzer|tokenizer|filter|field) type \[[^\]]{1,100}\]",
    r"No handler for type \[[^\]]{1,100}\] declared on field \[[^\]]{1,200}\]",
    r"analyzer \[[^\]]{1,100}\] (has not been configured in mappings|not found for field "
    r"\[[^\]]{1,200}\])",
    r"unknown setting \[[^\]]{1,200}\]",
    r"unknown parameter \[[^\]]{1,100}\] on mapper \[[^\]]{1,200}\] of type \[\w+\]",
)
"""What of an engine's own words is shown: what it says before it quotes a value."""
_SHOWN = re.compile("|".join(_REASONS))
_KIND = re.compile(r"[a-z_0-9]{1,100}")

_ANSWERS = (
    "the engine answers and does not do it, and it is tried again: look into its log, and at `GET "
    "_cluster/health` (red shards), `GET _cat/allocation` (full disks) and `GET _cat/thread_pool` "
    "(too much to do)"
)
_UNBLOCK = (
    "once there is room on its disks, engines of today lift the block themselves (else: PUT "
    "INDEX/_settings with index.blocks.read_only_allow_delete set to null)"
)
_RIGHTS = (
    "grant the URL's user, on the projection's indices and their aliases: create_index, manage, "
    "read and write"
)
_LOGIN = (
    f"check user and password in the URL ({ENCODED}); where a password was changed, give the new "
    "URL and start this process again"
)
TLS_REMEDY = (
    "write https:// where the engine asks for TLS, cafile=FILE for the authority that signed its "
    "certificate, the host name which that names, and certfile= and keyfile= if it asks for one of "
    "ours"
)


class TooLarge(StoreUnavailable):
    """A request was too large for the engine, or for what stands before it."""


def said(error: Any) -> str:
    """Returns what an engine says of an error, as JSON has it, without values."""
    kinds, shown = list[str](), list[str]()
    for part in _parts(error):
        kind = str(part.get("type", ""))
        if _KIND.fullmatch(kind):
            kinds.append(kind)
        if found := _SHOWN.search(str(part.get("reason", ""))):
            shown.append(found[0])
    return f"{kinds[0] if kinds else 'error'}{f': {shown[0]}' if shown else ''}"


def _parts(error: Any) -> Iterable[Mapping[str, Any]]:
    """Yields an error and its causes, outermost first."""
    while isinstance(error, Mapping):
        yield error
        causes = error.get("root_cause") or ()
        yield from (cause for cause in causes if isinstance(cause, Mapping))
        error = error.get("caused_by")


def kind_of(error: Any) -> str:
    """Returns the kind of an error, as JSON has it."""
    return str(error.get("type", "")) if isinstance(error, Mapping) else ""


def of_item(where: str, status: int, error: Any) -> BusError:
    """Returns what the answer to one document of a bulk request means; not for conflicts."""
    if status == 400 and kind_of(error) in _ABOUT_DOCUMENTS:
        return ProjectionError(f"{where} refuses a document: {said(error)}")
    return _of_status(where, status, error, writing=True)


def translated(where: str, error: TransportError, *, writing: bool) -> BusError:
    """Returns the bus's error for an error of the client's; `where` names the engine."""
    if isinstance(error, NoConnection):
        return _of_connection(where, error, writing)
    status = error.status_code if isinstance(error.status_code, int) else 0
    info = error.info if isinstance(error.info, Mapping) else {}
    return _of_status(where, status, info.get("error"), writing=writing)


def _of_connection(where: str, error: NoConnection, writing: bool) -> BusError:
    cause = error.info
    what = type(cause).__name__
    if isinstance(error, SSLError) or "SSL" in what or "Certificate" in what:
        return StoreUnavailable(f"{where}: no connection by TLS ({_why(cause)}); {TLS_REMEDY}")
    if isinstance(cause, ClientConnectorError):  # nothing was asked
        return StoreUnavailable(
            f"{where} cannot be reached ({what}); is it running, and is its URL right?"
        )
    is_late = isinstance(error, ConnectionTimeout)
    what = "no answer in time" if is_late else what
    if writing:
        return OutcomeUnknown(f"{where} did not say whether it wrote: {what}")
    by_tls = "" if is_late else f" If it hangs up: {TLS_REMEDY}"
    return StoreUnavailable(f"{where}: {what}; is it running, and is its URL right?{by_tls}")


def _why(error: Any) -> str:
    """Returns what TLS says of a certificate, if it is about one."""
    cause = getattr(error, "certificate_error", error)
    return f"{type(cause).__name__}: {cause}"[:300]


def _of_status(where: str, status: int, error: Any, *, writing: bool) -> BusError:
    kind, what = kind_of(error), f"{said(error)} ({status})"
    if status == TOO_LARGE:
        return TooLarge(f"{where}: {what}")
    if kind == _BLOCKED:
        return StoreUnavailable(f"{where} takes no writes: {what}; {_UNBLOCK}")
    if status == _UNKNOWN_USER:
        return NotAllowed(f"{where} does not let this user in: {what}; {_LOGIN}")
    if status == _DENIED:
        return NotAllowed(f"{where} does not allow it: {what}; {_RIGHTS}")
    if kind == _GONE:
        return StoreUnavailable(
            f"{where}: the index is gone: {what}; workers notice that, and `bus events recover` "
            f"has it built anew"
        )
    if writing and status in _CUT_SHORT:
        return OutcomeUnknown(f"{where} did not say whether it wrote: {what}")
    return StoreUnavailable(f"{where}: {what}; {_ANSWERS}")


def undeclarable(where: str, error: TransportError) -> BusError:
    """Returns the error for an index that cannot be made; its declaration holds no data, so that
    the engine's words are shown."""
    found = error.info.get("error") if isinstance(error.info, Mapping) else None
    if error.status_code != 400 or not isinstance(found, Mapping):
        return translated(where, error, writing=False)
    reason = f"{found.get('reason', '')}"
    return ConfigurationError(
        f"{where} cannot make the index: {kind_of(found)}: {reason:.500}; correct mappings= and "
        f"settings= of its SearchIndex"
    )
