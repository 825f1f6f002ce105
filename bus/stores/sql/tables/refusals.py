"""What an error of a database means for a batch: a conflict, a refusal, or an outage.

Nothing of the batch is written unless its commit was sent. The database's texts are not quoted,
because they hold data: only what it calls the fault, and the columns and constraints that it names.
"""

import re
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import CompileError, DBAPIError, StatementError

from bus.errors import ProjectionError
from bus.stores.sql.engine import Database
from bus.stores.sql.failures import Kind, code_of, is_of_store, kind_of, said

_REFUSED = {
    1048: "ER_BAD_NULL_ERROR",
    1064: "ER_PARSE_ERROR",
    1070: "ER_TOO_MANY_KEY_PARTS",
    1071: "ER_TOO_LONG_KEY",
    1072: "ER_KEY_COLUMN_DOES_NOT_EXITS",
    1074: "ER_TOO_BIG_FIELDLENGTH",
    1170: "ER_BLOB_KEY_WITHOUT_LENGTH",
    1210: "ER_WRONG_ARGUMENTS",
    1265: "WARN_DATA_TRUNCATED",
    1267: "ER_CANT_AGGREGATE_2COLLATIONS",
    1364: "ER_NO_DEFAULT_FOR_FIELD",
    1365: "ER_DIVISION_BY_ZERO",
    1411: "ER_WRONG_VALUE_FOR_TYPE",
    1644: "ER_SIGNAL_EXCEPTION",
    1690: "ER_DATA_OUT_OF_RANGE",
    1906: "ER_WARNING_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN",
    3105: "ER_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN",
}
"""What MariaDB and MySQL refuse of a row, besides what they refuse of a log."""
_CLASSES = ("22", "23", "42", "P0", "21")
"""Classes of PostgreSQL's codes: data, constraints, statements, triggers, cardinality."""
_OF_VALUES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What a column's type raises for a value that it cannot take."""
_NAMED = re.compile(
    r"(?:olumn|ield) '([^']+)'|for key '([^']+)'$|CONSTRAINT `([^`]+)`|constraint '([^']+)'"
)


class Phase(Enum):
    """What is being done when an error comes."""

    VERSIONS = auto()
    ROWS = auto()
    STATEMENT = auto()
    COMMIT = auto()


def judged(
    error: Exception, database: Database, phase: Phase, primary_key: str
) -> Exception | None:
    """Returns the bus's error for one that a batch met, or None if another writer was first."""
    if not is_of_store(error):
        is_of_rows = phase in (Phase.ROWS, Phase.STATEMENT) and isinstance(error, _OF_VALUES)
        return _of_driver(database.name, error) if is_of_rows else error
    kind = kind_of(error)
    if kind is Kind.AGAIN or (kind is Kind.TAKEN and _by_another(error, phase, primary_key)):
        return None
    if kind is Kind.TAKEN or is_refused(error):
        return refused(error, database)
    return database.translated(error, writing=phase is Phase.COMMIT)


def refused(error: BaseException, database: Database) -> ProjectionError:
    """Returns the error for a change that a database refuses."""
    return ProjectionError(f"{database.name} refuses the change: {words(error)}")


def _of_driver(name: str, error: Exception) -> ProjectionError:
    """Returns the error for a value that the driver could not write, or a column's type not read:
    not only the batch would fail for ever, but all that come after it."""
    return ProjectionError(
        f"the change cannot be written to {name}, or its row be read ({type(error).__name__}): see "
        f"that its values are of its columns' types"
    )


def _by_another(error: Exception, phase: Phase, primary_key: str) -> bool:
    """Returns whether what exists already is a stream, or a row that was not there before."""
    return phase is Phase.VERSIONS or (phase is Phase.ROWS and _constraint(error) == primary_key)


def is_refused(error: BaseException) -> bool:
    """Returns whether a repeat of the statement cannot succeed, because of what it says."""
    code, kind = code_of(error), kind_of(error)
    if code in _REFUSED or kind is Kind.CONTENT:
        return True
    if isinstance(code, str):
        return kind is Kind.UNCLEAR and code.startswith(_CLASSES)
    if isinstance(error, CompileError):
        return True
    is_of_ours = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    if is_of_ours:  # a value that SQLAlchemy could not hand on
        own: Any = error.orig  # type: ignore[attr-defined]
        return isinstance(own, _OF_VALUES)
    return isinstance(_cause(error), ValueError)  # one that asyncpg could not


def _cause(error: BaseException) -> Any:
    own = getattr(error, "orig", None) or error
    return own.__cause__ or own


def _constraint(error: BaseException) -> str:
    """Returns the name of the constraint or key that refused it; "" if it is not told."""
    cause = _cause(error)
    if name := getattr(cause, "constraint_name", None):
        return str(name)
    found = re.search(r"for key '([^']+)'$", _text(cause))
    name = found[1].rpartition(".")[2] if found else ""
    return PRIMARY if name == "PRIMARY" else name


PRIMARY = "PRIMARY"
"""How MariaDB and MySQL call each primary key."""


def _text(cause: BaseException) -> str:
    return str(cause.args[1]) if len(cause.args) > 1 else ""


def words(error: BaseException) -> str:
    """Returns what an error says, with the columns and constraints that it names, and no data."""
    cause = _cause(error)
    code = code_of(error)
    names = [getattr(cause, f"{what}_name", None) for what in ("column", "constraint")]
    if not any(names):
        names = [next(filter(None, found.groups())) for found in _NAMED.finditer(_text(cause))]
    named = ", ".join(dict.fromkeys(str(name) for name in names if name))
    what = _REFUSED.get(code, "") if isinstance(code, int) else type(cause).__name__
    told = f"{what} ({code})" if what and code else (what or said(error))
    if isinstance(code, int) and not what:
        told = said(error)
    return f"{told}: {named}" if named else told
