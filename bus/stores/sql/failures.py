"""What a database's error means for the statement that raised it, and which of our errors that is.

Closed lists say what is a conflict, what passes when it is repeated, what is about the data itself,
and what says that nothing was done. All else leaves open what was done. Servers' own texts are not
quoted: they hold data.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import NamedTuple

from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree

from bus.common.tasks import OthersTime
from bus.common.urls import ENCODED, TLS_REMEDY
from bus.errors import (
    BusError,
    ConfigurationError,
    InvalidMessage,
    NotAllowed,
    OutcomeUnknown,
    StoreUnavailable,
)

ANSWER_WITHIN = 5.0
MARGIN = 2.0
"""By how much the server's own limit of time is shorter: it ends the statement, and says so."""


class Kind(Enum):
    """What an error means."""

    TAKEN = auto()
    """What is unique exists already."""
    AGAIN = auto()
    """Others were in the way; nothing was done, and a repeat may succeed."""
    CONTENT = auto()
    """It is about the data: a repeat cannot succeed."""
    NOT_ALLOWED = auto()
    NO_TABLES = auto()
    NOTHING_DONE = auto()
    """The server does not do it, for now."""
    FENCED = auto()
    """The log takes no commits any more: it went elsewhere."""
    UNCLEAR = auto()
    """It does not say what was done."""


FENCED, FENCED_NUMBER = "ZF001", 9001
"""What PostgreSQL and MySQL answer behind a fence: codes that they have left free."""

_NAMES: dict[Kind, dict[str | int, str]] = {
    Kind.TAKEN: {"23505": "unique_violation", 1062: "ER_DUP_ENTRY", 1586: "ER_DUP_ENTRY"},
    Kind.AGAIN: {
        "40001": "serialization_failure",
        "40P01": "deadlock_detected",
        "55P03": "lock_not_available",
        1020: "ER_CHECKREAD",
        1205: "ER_LOCK_WAIT_TIMEOUT",
        1213: "ER_LOCK_DEADLOCK",
    },
    Kind.NOT_ALLOWED: {
        "28000": "invalid_authorization_specification",
        "28P01": "invalid_password",
        "3D000": "invalid_catalog_name: there is no such database",
        "42501": "insufficient_privilege",
        1044: "ER_DBACCESS_DENIED_ERROR",
        1045: "ER_ACCESS_DENIED_ERROR",
        1049: "ER_BAD_DB_ERROR: there is no such database",
        1142: "ER_TABLEACCESS_DENIED_ERROR",
        1143: "ER_COLUMNACCESS_DENIED_ERROR",
        1227: "ER_SPECIFIC_ACCESS_DENIED_ERROR",
        1698: "ER_ACCESS_DENIED_NO_PASSWORD_ERROR",
    },
    Kind.NO_TABLES: {
        "3F000": "invalid_schema_name",
        "42P01": "undefined_table",
        "42703": "undefined_column",
        1054: "ER_BAD_FIELD_ERROR",
        1146: "ER_NO_SUCH_TABLE",
    },
    Kind.CONTENT: {
        "54000": "program_limit_exceeded",
        "54001": "statement_too_complex",
        1118: "ER_TOO_BIG_ROWSIZE",
        1153: "ER_NET_PACKET_TOO_LARGE",
        1264: "ER_WARN_DATA_OUT_OF_RANGE",
        1292: "ER_TRUNCATED_WRONG_VALUE",
        1300: "ER_INVALID_CHARACTER_STRING",
        1301: "ER_WARN_ALLOWED_PACKET_OVERFLOWED",
        1366: "ER_TRUNCATED_WRONG_VALUE_FOR_FIELD",
        1406: "ER_DATA_TOO_LONG",
        3140: "ER_INVALID_JSON_TEXT",
        3141: "ER_INVALID_JSON_TEXT_IN_PARAM",
        3150: "ER_JSON_VALUE_TOO_BIG",
        3151: "ER_JSON_KEY_TOO_BIG",
        3157: "ER_JSON_DOCUMENT_TOO_DEEP",
        3819: "ER_CHECK_CONSTRAINT_VIOLATED",
        4025: "ER_CONSTRAINT_FAILED",
    },
    Kind.NOTHING_DONE: {
        "25006": "read_only_sql_transaction",
        "53000": "insufficient_resources",
        "53100": "disk_full",
        "53200": "out_of_memory",
        "53300": "too_many_connections",
        "53400": "configuration_limit_exceeded",
        "55000": "object_not_in_prerequisite_state",
        "57014": "query_canceled",
        "57P03": "cannot_connect_now",
        "58030": "io_error",
        "58P01": "undefined_file",
        "XX001": "data_corrupted",
        "XX002": "index_corrupted",
        1015: "ER_CANT_LOCK",
        1021: "ER_DISK_FULL",
        1030: "ER_GET_ERRNO",
        1037: "ER_OUTOFMEMORY",
        1038: "ER_OUT_OF_SORTMEMORY",
        1040: "ER_CON_COUNT_ERROR",
        1041: "ER_OUT_OF_RESOURCES",
        1048: "ER_BAD_NULL_ERROR: it came too late",
        1114: "ER_RECORD_FILE_FULL",
        1129: "ER_HOST_IS_BLOCKED",
        1203: "ER_TOO_MANY_USER_CONNECTIONS",
        1206: "ER_LOCK_TABLE_FULL",
        1226: "ER_USER_LIMIT_REACHED",
        1290: "ER_OPTION_PREVENTS_STATEMENT",
        1317: "ER_QUERY_INTERRUPTED",
        1792: "ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION",
        1836: "ER_READ_ONLY_MODE",
        1969: "ER_STATEMENT_TIMEOUT",
        3024: "ER_QUERY_TIMEOUT",
        3100: "ER_RUN_HOOK_ERROR",
        3572: "ER_LOCK_NOWAIT",
        2002: "CR_CONNECTION_ERROR",
        2003: "CR_CONN_HOST_ERROR",
        2005: "CR_UNKNOWN_HOST",
    },
    Kind.FENCED: {FENCED: "the log is fenced", FENCED_NUMBER: "the log is fenced"},
    Kind.UNCLEAR: {
        "57P01": "admin_shutdown",
        "57P02": "crash_shutdown",
        1053: "ER_SERVER_SHUTDOWN",
        1152: "ER_ABORTING_CONNECTION",
        1158: "ER_NET_READ_ERROR",
        1159: "ER_NET_READ_INTERRUPTED",
        1160: "ER_NET_ERROR_ON_WRITE",
        1161: "ER_NET_WRITE_INTERRUPTED",
        1927: "ER_CONNECTION_KILLED",
        2006: "CR_SERVER_GONE_ERROR",
        2013: "CR_SERVER_LOST",
        2014: "CR_COMMANDS_OUT_OF_SYNC",
        2055: "CR_SERVER_LOST_EXTENDED",
    },
}
READ_ONLY = frozenset({"25006", 1290, 1792, 1836})
"""What a server says that takes no writes: after a fail-over, another one does."""
OF_CLIENT = frozenset({2002, 2003, 2005, 2006, 2013, 2055})
"""What a driver says where the server does not answer."""
_KINDS = {code: kind for kind, names in _NAMES.items() for code in names}
_TEXTS = {code: text for names in _NAMES.values() for code, text in names.items()}

LOCK_WAIT_TIMEOUT = 1205
LOCK_WAITS = {"55P03", LOCK_WAIT_TIMEOUT}
"""Others held a lock for longer than a statement waits."""
_EXTRAS = {"asyncpg": "doubledecker[postgresql]", "aiomysql": "doubledecker[mysql]"}
ENDS_TRANSACTION = {"40001", "40P01", 1213}
"""The server has ended the transaction, or does so once a savepoint is left."""
_ENDED = ("; the handler is closed", "Transport does not expose socket instance")
_DRIVERS = {"asyncpg", "aiomysql", "pymysql"}
_UNSENT = " can not be used with MySQL"
"""How PyMySQL refuses NaN and Infinity, without a code."""
_ABOUT_CONTENT = ("22", "23")
"""Classes of PostgreSQL's codes: data exceptions, and constraints other than the unique ones."""

_ANSWERS = (
    "the server answers and does not do it, and it is tried again: look into its log; see to its "
    "disk, to its limits of connections and memory, and to whether it is the primary"
)


class Setting(NamedTuple):
    """What gives the URL of a database, as errors name it, and what is to be had there."""

    name: str = "BUS_LOG_URL"
    rights: str = (
        "grant the URL's user SELECT, INSERT, UPDATE and DELETE on the tables (`bus stores sql` "
        "names them; who creates or upgrades them needs CREATE and ALTER too)"
    )
    tables: str = (
        "tables of the log are gone, or are not those of this release: {}; `bus stores check` says "
        "what is missing"
    )


LOG = Setting()


class NoAnswer(TimeoutError):
    """There was no answer in time: the statement may still be under way."""


class NotConnected(TimeoutError):
    """There was no connection in time: nothing was asked."""


def code_of(error: BaseException) -> str | int | None:
    """Returns PostgreSQL's SQLSTATE, or MySQL's number, if the error has one."""
    own = getattr(error, "orig", None) or error
    first = own.args[0] if own.args else None
    if isinstance(first, int) and first and not isinstance(own, OSError):
        return first
    state = getattr(own, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_of_store(error: BaseException) -> bool:
    """Returns whether the database or its driver raised it, and not a mistake of our own."""
    driver = type(error).__module__.partition(".")[0] in _DRIVERS
    kinds = (SQLAlchemyError, OSError, TimeoutError, EOFError, UnicodeError)
    return driver or isinstance(error, kinds) or had_ended(error)


def had_ended(error: BaseException) -> bool:
    """Returns whether a connection had ended before it was used: uvloop, or aiomysql within it,
    says so by an error that neither a driver nor SQLAlchemy takes for one of theirs."""
    return isinstance(error, RuntimeError) and str(error).endswith(_ENDED)


def is_read_only(error: BaseException) -> bool:
    """Returns whether the server takes no writes, so that its connections are of no use."""
    return code_of(error) in READ_ONLY


def is_lost(error: BaseException) -> bool:
    """Returns whether the connection has ended, or does not answer: the server ends what was open
    on it."""
    if getattr(error, "connection_invalidated", False):
        return True
    return (
        isinstance(error, NoAnswer)
        or had_ended(error)
        or _KINDS.get(code_of(error) or 0) is Kind.UNCLEAR
    )


def kind_of(error: BaseException) -> Kind:
    """Returns what an error means."""
    code = code_of(error)
    if code in _KINDS:
        return _KINDS[code]
    if isinstance(code, str) and code.startswith(_ABOUT_CONTENT):
        return Kind.CONTENT
    if code is not None:
        return Kind.UNCLEAR
    own = getattr(error, "orig", None) or error
    if isinstance(own, UnicodeError) or type(own).__name__ == "DataError" or _is_unsent(own):
        return Kind.CONTENT
    if isinstance(own, NotConnected | NoneFree | ConnectionRefusedError | ArgumentError):
        return Kind.NOTHING_DONE
    return Kind.UNCLEAR


def _is_unsent(own: BaseException) -> bool:
    return type(own).__name__ == "ProgrammingError" and str(own).endswith(_UNSENT)


def said(error: BaseException) -> str:
    """Returns what an error says, without what a server quotes of data."""
    code = code_of(error)
    if code is not None:
        tls = tls_problem(error)
        return f"{_TEXTS.get(code, 'error')} ({code}{f': {tls}' if tls else ''})"
    if isinstance(error, NoneFree):
        return "all connections of this process are in use"
    if had_ended(error):
        return "the connection had ended"
    own = getattr(error, "orig", None) or error
    if isinstance(own, DBAPIError | UnicodeError):
        return type(own).__name__
    return f"{type(own).__name__}: {own!s:.200}" if isinstance(own, OSError) else type(own).__name__


def tls_problem(error: BaseException | None) -> str:
    """Returns what was wrong with TLS; empty if nothing was. A driver may tell it as its own error,
    which has the true one for its cause."""
    while error is not None:
        own = getattr(error, "orig", None) or error
        if isinstance(own, ssl.SSLError) or ("SSL" in str(own) and isinstance(own, OSError)):
            return f"{own!s:.200}"
        error = own.__cause__
    return ""


def translated(
    store: str, error: BaseException, *, writing: bool, setting: Setting = LOG
) -> BusError:
    """Returns the bus's error for a database's error."""
    match kind_of(error):
        case Kind.NOT_ALLOWED:
            return NotAllowed(
                f"{store} does not allow it: {said(error)}; {setting.rights}, and check user, "
                f"password and database in {setting.name} ({ENCODED}); where a password was "
                f"changed, give the new URL and start this process again"
            )
        case Kind.NO_TABLES:
            return StoreUnavailable(f"{store}: {setting.tables.format(said(error))}")
        case Kind.FENCED:
            return StoreUnavailable(
                f"{store}: the log takes nothing any more, because it was moved, or is being "
                f"moved; health says where it went (`event log`): start this process again with "
                f"the setting for that place"
            )
        case Kind.CONTENT:
            return InvalidMessage(f"{store} refuses the data: {said(error)}")
        case Kind.UNCLEAR if writing:
            return OutcomeUnknown(f"{store} did not say whether it wrote: {said(error)}")
    if tls_problem(error):
        return StoreUnavailable(f"{store}: {said(error)}; {TLS_REMEDY}")
    is_answer = code_of(error) is not None and code_of(error) not in OF_CLIENT
    if is_answer or isinstance(error, NoneFree):
        return StoreUnavailable(f"{store}: {said(error)}; {_ANSWERS}")
    return StoreUnavailable(f"{store}: {said(error)}; is it running, and is {setting.name} right?")


def no_driver(driver: str, setting: Setting = LOG) -> ConfigurationError:
    """Returns the error for a driver that is not installed."""
    wanted = _EXTRAS.get(driver, driver)
    return ConfigurationError(
        f"{setting.name} needs {driver}, which is not installed: pip install '{wanted}'"
    )


@asynccontextmanager
async def bounded(seconds: float) -> AsyncIterator[None]:
    """Bounds what is asked of the server within. Raises: NoAnswer."""
    try:
        with OthersTime():
            async with asyncio.timeout(seconds):
                yield
    except TimeoutError as error:
        if isinstance(error, NotConnected):
            raise
        raise NoAnswer(f"no answer within {seconds:.0f} s") from error
