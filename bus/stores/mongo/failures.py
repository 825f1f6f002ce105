"""What an error of the driver's says of the write that met it, and which of our errors that is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from bus.errors import (
    BusError,
    ConfigurationError,
    InvalidMessage,
    OutcomeUnknown,
    StoreUnavailable,
)
from bus.stores.mongo.client import ANSWER_WITHIN, Client, bounded
from bus.stores.records import unencodable

DUPLICATE_KEY = 11000
NO_REPLICA_SET = {20, 40573}
"""Of transactions, and of the stream of changes."""

_NOT_ALLOWED = {13, 18}
_CUT_SHORT = {50, 64, 89, 91, 189, 262, 11600, 11601, 11602}
"""Time limits, interruptions, shut-downs, elections: they say nothing of what was written."""

_NAMES = {
    2: "BadValue",
    9: "FailedToParse",
    14: "TypeMismatch",
    15: "Overflow",
    28: "PathNotViable",
    40: "ConflictingUpdateOperators",
    52: "DollarPrefixedFieldName",
    54: "NotSingleValueField",
    56: "EmptyFieldName",
    57: "DottedFieldName",
    66: "ImmutableField",
    10334: "BSONObjectTooLarge",
    DUPLICATE_KEY: "DuplicateKey",
}

_TLS_REMEDY = (
    " If it asks for TLS: tls=true, tlsCAFile= for the authority that signed its certificate, the "
    "host name which that names, and tlsCertificateKeyFile= if it asks for one of ours."
)

ENCODING_ERRORS = (BSONError, OverflowError, UnicodeError, TypeError, ValueError, RecursionError)


def is_unclear(error: Exception) -> bool:
    """Whether the write that met this error may have been carried out, or may be yet."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError | WriteConcernError):
        return True
    return isinstance(error, OperationFailure) and error.code in _CUT_SHORT


def is_cut_short(code: int) -> bool:
    """Whether an error code of one write in a bulk leaves its outcome open."""
    return code in _CUT_SHORT


def is_refused(error: Exception) -> bool:
    """Whether the server understood and said no: nothing was written, repeating is in vain."""
    if not isinstance(error, OperationFailure) or isinstance(error, BulkWriteError):
        return False
    passing = is_unclear(error) or error.has_error_label("TransientTransactionError")
    return not passing and error.code not in _NOT_ALLOWED


def said(error: Exception) -> str:
    """What an error says, without what MongoDB quotes of documents and filters."""
    if isinstance(error, BulkWriteError):
        failures = error.details["writeErrors"]
        return code_name(failures[0]["code"]) if failures else "a write concern failed"
    if isinstance(error, OperationFailure):
        return code_name(error.code or 0, (error.details or {}).get("codeName", ""))
    return f"{str(error).partition(' (configured timeouts')[0]:.500}"


def code_name(code: int, name: str = "") -> str:
    """An error code of MongoDB's with its name, as its manual lists them."""
    return f"{name or _NAMES.get(code, 'error')} (code {code})"


def translated(error: Exception, *, writing: bool) -> BusError:
    """Our error for one of the driver's."""
    if isinstance(error, OperationFailure) and error.code in _NOT_ALLOWED:
        return ConfigurationError(
            f"MongoDB does not allow it: {said(error)}; check the user and password in the "
            f"URL, and that this user may read and write the database"
        )
    if isinstance(error, OperationFailure) and error.code in NO_REPLICA_SET:
        return no_transactions()
    if not isinstance(error, PyMongoError):
        return InvalidMessage(f"cannot be stored: {unencodable(error)}")
    if writing and is_unclear(error):
        return OutcomeUnknown(f"MongoDB did not say whether it wrote: {said(error)}")
    reason = said(error)
    remedy = "is it running, and is its URL right?"
    if "SSL" in reason or "connection closed" in reason:
        remedy += _TLS_REMEDY
    return StoreUnavailable(f"MongoDB: {reason}; {remedy}")


def no_transactions() -> ConfigurationError:
    """What to do about a server without transactions."""
    return ConfigurationError(
        "this MongoDB server stands alone: it has no transactions, which projections and commands "
        "on several streams need, and tells nobody what is stored; start mongod with --replSet "
        "rs0, run rs.initiate() once (one member is enough), and put ?replicaSet=rs0 into the URL"
    )


@asynccontextmanager
async def reading(
    seconds: float = ANSWER_WITHIN, *, server_waits: bool = False
) -> AsyncIterator[None]:
    """Bounds reads, as `bounded` does. Raises: StoreUnavailable, ConfigurationError."""
    try:
        async with bounded(seconds, server_waits=server_waits):
            yield
    except PyMongoError as error:
        raise translated(error, writing=False) from error


async def hello(client: Client) -> Any:
    """The server's word on itself. Raises: StoreUnavailable, soon, where there is none."""
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
