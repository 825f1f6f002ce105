"""What errors of SQL databases mean, by closed lists."""

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from bus.errors import InvalidMessage, NotAllowed, OutcomeUnknown, StoreUnavailable
from bus.stores.sql.failures import (
    Kind,
    NoAnswer,
    NotConnected,
    is_lost,
    is_of_store,
    kind_of,
    said,
    translated,
)

SECRET = "Ada's salary"


class PostgresError(Exception):
    def __init__(self, state: str) -> None:
        super().__init__(f"{SECRET} (DETAIL: ...)")
        self.sqlstate = state


class MySQLError(Exception):
    """As pymysql's: with a number, a text, and a state that says less than the number."""

    def __init__(self, number: int) -> None:
        super().__init__(number, f"Duplicate entry {SECRET}")
        self.sqlstate = "HY000"


def error(code: str | int) -> DBAPIError:
    own: Any = PostgresError(code) if isinstance(code, str) else MySQLError(code)
    return DBAPIError("INSERT ...", {}, own, hide_parameters=True)


@pytest.mark.parametrize(
    ("codes", "kind", "reading", "writing"),
    [
        (["23505", 1062], Kind.TAKEN, StoreUnavailable, StoreUnavailable),
        (["40001", "40P01", "55P03", 1213, 1205], Kind.AGAIN, StoreUnavailable, StoreUnavailable),
        (["22021", "22P02", "23502", "54000", 1406, 3140, 4025], Kind.CONTENT, InvalidMessage,
         InvalidMessage),
        (["42501", "28P01", "3D000", 1142, 1045, 1049], Kind.NOT_ALLOWED, NotAllowed, NotAllowed),
        (["42P01", 1146], Kind.NO_TABLES, StoreUnavailable, StoreUnavailable),
        (["25006", "53100", "53300", "57014", "57P03", 1021, 1040, 1048, 1114, 1290, 1317, 1836],
         Kind.NOTHING_DONE, StoreUnavailable, StoreUnavailable),
        (["57P01", "57P02", "08006", "08007", "XX000", 1053, 2006, 2013, 1927, 9999], Kind.UNCLEAR,
         StoreUnavailable, OutcomeUnknown),
    ],
)  # fmt: skip
def test_a_code_says_what_was_done(
    codes: list[str | int], kind: Kind, reading: type[Exception], writing: type[Exception]
) -> None:
    for code in codes:
        assert kind_of(error(code)) is kind, code
        assert type(translated("MariaDB", error(code), writing=False)) is reading
        told = translated("MariaDB", error(code), writing=True)
        assert type(told) is writing
        assert str(code) in str(told)
        assert SECRET not in str(told)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (NoAnswer("no answer"), Kind.UNCLEAR),
        (ConnectionResetError(104, "reset"), Kind.UNCLEAR),
        (EOFError(), Kind.UNCLEAR),
        (NotConnected("no connection"), Kind.NOTHING_DONE),
        (NoneFree("QueuePool limit"), Kind.NOTHING_DONE),
        (ConnectionRefusedError(111, "refused"), Kind.NOTHING_DONE),
        (UnicodeEncodeError("utf-8", SECRET, 0, 1, "surrogates"), Kind.CONTENT),
    ],
)
def test_what_has_no_code_is_judged_by_its_kind(raised: Exception, kind: Kind) -> None:
    assert kind_of(raised) is kind
    assert SECRET not in said(raised)


def test_who_may_not_is_told_what_to_grant() -> None:
    told = str(translated("PostgreSQL", error("42501"), writing=True))
    assert "insufficient_privilege (42501); grant the URL's user SELECT, INSERT, UPDATE" in told


@pytest.mark.parametrize(
    "words",
    [
        "unable to perform operation on <TCPTransport closed=True>; the handler is closed",
        "Transport does not expose socket instance",
    ],
)
def test_what_is_said_under_uvloop_of_a_connection_that_had_ended_is_an_outage(words: str) -> None:
    ended = RuntimeError(words)
    assert is_of_store(ended)
    assert is_lost(ended)
    assert kind_of(ended) is Kind.UNCLEAR
    assert "the connection had ended" in str(translated("MariaDB", ended, writing=False))
    assert not is_of_store(RuntimeError("something else is closed"))
