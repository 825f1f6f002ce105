"""What a driver's error means for the write that raised it, and which of our errors that is.

Two kinds are distinguished. A closed list of codes is about the document or the query itself:
repeating cannot help. Everything else is a problem of the server, which passes: unless it is known
to have done nothing, the outcome is unknown.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from bus.common.urls import ENCODED
from bus.errors import (
    BusError,
    ConfigurationError,
    InvalidMessage,
    NotAllowed,
    OutcomeUnknown,
    StoreUnavailable,
)
from bus.stores.mongo.client import ANSWER_WITHIN, Client, bounded
from bus.stores.records import unencodable

DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48
OPEN_WITHIN = 30.0

_NOT_ALLOWED = {13, 18}
_NOTHING_DONE = {20, 133, 263, 371, 8000}
"""Answers that come before anything is written: no transactions here, no primary for this mongos,
transactions cannot do that, user writes blocked, refused by Atlas."""
_CUT_SHORT = {50, 64, 79, 89, 91, 100, 189, 262, 11600, 11601, 11602}
"""Time limits, interruptions, shutdowns, elections, write concerns: they do not say what was
written."""

_ABOUT_CONTENT = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    15: "Overflow",
    16: "InvalidLength",
    22: "InvalidBSON",
    28: "PathNotViable",
    40: "ConflictingUpdateOperators",
    52: "DollarPrefixedFieldName",
    53: "InvalidIdField",
    54: "NotSingleValueField",
    55: "InvalidDBRef",
    56: "EmptyFieldName",
    57: "DottedFieldName",
    66: "ImmutableField",
    121: "DocumentValidationFailure",
    171: "CannotIndexParallelArrays",
    10334: "BSONObjectTooLarge",
    DUPLICATE_KEY: "DuplicateKey",
    16755: "CannotExtractGeoKeys",
    17280: "KeyTooLong",
    17419: "ResultTooLarge",
    17420: "ResultTooLarge",
}
"""The codes about a document or an update. All others are the server's problem."""
_ABOUT_QUESTIONS = {26, 27, 31, 43, 59, 72, 73, 115, 136, 166, 168, 241, 263, 280, 286, 291, 292}
"""Codes about a command, a filter, a sort order, or a missing cursor or collection."""
_ASSERTIONS = range(15_000, 9_000_000)
"""The codes named LocationNNNNN: errors found while reading or evaluating an expression."""

_ACTIONS = {
    "aggregate": "find",
    "count": "find",
    "create": "createCollection",
    "createIndexes": "createIndex",
    "delete": "remove",
    "distinct": "find",
    "drop": "dropCollection",
    "findAndModify": "find, insert and update",
    "getMore": "find",
}
"""The names of roles' actions, if they differ from their commands' names."""

_TLS_REMEDY = (
    " If it asks for TLS: tls=true, tlsCAFile= for the authority that signed its certificate, the "
    "host name which that names, and tlsCertificateKeyFile= if it asks for one of ours."
)
_ANSWERS = (
    "the server answers and does not do it, and it is tried again: look into its log; see to its "
    "disk, to who blocks writes (fsyncLock, setUserWriteBlockMode) or holds locks (db.currentOp())"
)
_SIGNS_OF_TLS = ("SSL", "connection closed", "Broken pipe", "Connection reset")

ENCODING_ERRORS = (BSONError, OverflowError, UnicodeError, TypeError, ValueError, RecursionError)


def is_about_content(code: object) -> bool:
    """Returns whether an error code is about a document or an update, and not the server."""
    return code in _ABOUT_CONTENT


def is_cut_short(code: object) -> bool:
    """Returns whether an error code leaves open what was written, so that asking again helps."""
    return code in _CUT_SHORT


def is_answer(error: BaseException) -> bool:
    """Returns whether the server has finished the command, whatever its outcome."""
    return isinstance(error, OperationFailure)


def is_unclear(error: Exception) -> bool:
    """Returns whether the write that raised this error may have been carried out, or yet may be."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    if isinstance(error, ConnectionFailure | WTimeoutError | WriteConcernError):
        return True
    if isinstance(error, BulkWriteError):
        codes = [failure["code"] for failure in error.details["writeErrors"]]
        return bool(error.details["writeConcernErrors"]) or any(map(is_cut_short, codes))
    if isinstance(error, WriteError):
        return is_cut_short(error.code)
    done_nothing = {*_ABOUT_CONTENT, *_NOT_ALLOWED, *_NOTHING_DONE}
    return isinstance(error, OperationFailure) and error.code not in done_nothing


def is_refused(error: Exception) -> bool:
    """Returns whether the server refuses the document or update itself: repeating cannot help."""
    if not isinstance(error, OperationFailure) or isinstance(error, BulkWriteError):
        return False
    passing = error.has_error_label("TransientTransactionError")
    return not passing and is_about_content(error.code)


def is_refused_question(error: Exception) -> bool:
    """Returns whether the server refuses a filter, a sort order, or the place to continue at."""
    if not isinstance(error, OperationFailure) or isinstance(error, BulkWriteError):
        return False
    passing = error.has_error_label("TransientTransactionError")
    asked = error.code in _ABOUT_QUESTIONS or error.code in _ASSERTIONS
    return not passing and (asked or is_about_content(error.code))


def is_callers_own(error: PyMongoError) -> bool:
    """Returns whether an error was caused by code that uses the driver directly, and not by the
    server."""
    if isinstance(error, BulkWriteError):
        codes = [failure["code"] for failure in error.details["writeErrors"]]
        return not is_unclear(error) and all(map(is_about_content, codes))
    if isinstance(error, OperationFailure):
        return is_refused_question(error)
    return not isinstance(error, ConnectionFailure) and not is_closed(error)


def is_closed(error: BaseException) -> bool:
    """Returns whether it says that the client was closed."""
    return isinstance(error, InvalidOperation) and "after close" in str(error)


def is_standalone(error: BaseException) -> bool:
    """Returns whether it says that this server belongs to no replica set."""
    if not isinstance(error, OperationFailure):
        return False
    return error.code == 40573 or (error.code == 20 and "replica set" in str(error))


def said(error: Exception) -> str:
    """Returns what an error says, without what MongoDB quotes of documents and filters."""
    if isinstance(error, BulkWriteError):
        failures = error.details["writeErrors"] or error.details["writeConcernErrors"]
        return code_name(failures[0]["code"]) if failures else "a write concern failed"
    if isinstance(error, OperationFailure):
        return code_name(error.code or 0, (error.details or {}).get("codeName", ""))
    return f"{str(error).partition(' (configured timeouts')[0]:.500}"


def code_name(code: int, name: str = "") -> str:
    """Returns a MongoDB error code with its name, as in MongoDB's manual."""
    return f"{name or _ABOUT_CONTENT.get(code, 'error')} (code {code})"


def translated(error: Exception, *, writing: bool) -> BusError:
    """Returns the bus's error for a driver's error."""
    if isinstance(error, OperationFailure) and error.code in _NOT_ALLOWED:
        return _not_allowed(error)
    if is_standalone(error):
        return no_transactions()
    if not isinstance(error, PyMongoError):
        return InvalidMessage(f"cannot be stored: {unencodable(error)}")
    if writing and is_unclear(error):
        return OutcomeUnknown(f"MongoDB did not say whether it wrote: {said(error)}")
    if writing and is_refused(error) and not isinstance(error, DuplicateKeyError):
        return InvalidMessage(f"MongoDB refuses it: {said(error)}")
    return StoreUnavailable(f"MongoDB: {said(error)}; {_remedy(error)}")


def trouble(reason: str) -> StoreUnavailable:
    """Returns the error for a server that answers, but does not do what it was asked."""
    return StoreUnavailable(f"MongoDB: {reason}; {_ANSWERS}")


def _remedy(error: Exception) -> str:
    if is_closed(error):
        return (
            "the client was closed while the bus still uses it: let the bus end first (leave its "
            "`async with`), close the client you gave it after that, and start this process again"
        )
    if is_answer(error):
        return _ANSWERS
    remedy = "is it running, and is its URL right?"
    if any(sign in str(error) for sign in _SIGNS_OF_TLS):
        remedy += _TLS_REMEDY
    return remedy


def _not_allowed(error: OperationFailure) -> NotAllowed:
    """Returns an error that names the action and the remedy, without the server's text: that quotes
    the whole command, which may hold data."""
    found = re.match(r"not authorized on (\S+) to execute command \{ (\w+):", str(error))
    if found:
        where, command = found.groups()
        action = _ACTIONS.get(command, command)
        return NotAllowed(
            f"MongoDB does not allow {command} on the database {where!r}: {said(error)}; grant "
            f"the user of the URL the action {action} there (db.grantPrivilegesToRole, or the "
            f"role readWrite)"
        )
    return NotAllowed(
        f"MongoDB does not allow it: {said(error)}; check user and password in the URL ({ENCODED}: "
        f"a space is %20 then, and a + is %2B), that it says where the user is known "
        f"(?authSource=admin, say), and that this user may read and write the database; where a "
        f"password was changed, give the new URL and start this process again"
    )


def no_transactions() -> ConfigurationError:
    """Returns the error for a server without transactions."""
    return ConfigurationError(
        "this MongoDB server stands alone: it has no transactions, which projections and commands "
        "on several streams need, and tells nobody what is stored; start mongod with --replSet "
        "rs0, run rs.initiate() once (one member is enough), and put ?replicaSet=rs0 into the URL"
    )


@asynccontextmanager
async def reading(
    seconds: float = ANSWER_WITHIN, *, server_waits: bool = False
) -> AsyncIterator[None]:
    """Bounds reads like `bounded`. Raises: StoreUnavailable, ConfigurationError."""
    try:
        async with bounded(seconds, server_waits=server_waits):
            yield
    except PyMongoError as error:
        raise translated(error, writing=False) from error


async def hello(client: Client) -> Any:
    """Returns what the server says of itself. Raises: StoreUnavailable, soon, if none answers."""
    async with reading():
        return await client.get_database("admin").command("hello")


@asynccontextmanager
async def writing(seconds: float = ANSWER_WITHIN) -> AsyncIterator[None]:
    """Bounds writes. Raises: OutcomeUnknown, StoreUnavailable, InvalidMessage."""
    try:
        async with bounded(seconds):
            yield
    except (PyMongoError, *ENCODING_ERRORS) as error:
        raise translated(error, writing=True) from error
