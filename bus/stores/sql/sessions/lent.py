"""The session that a handler is lent: SQLAlchemy's own, in a transaction that the bus ends.

What would end it is refused before anything is done. What has ended it all the same, by an error
that the handler swallowed, is found.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from bus.errors import ProjectionError
from bus.stores.session import Use, swallowed
from bus.stores.sql.failures import ENDS_TRANSACTION, code_of

GUARD = "bus_guard"
"""The option of a connection that holds the guard of its transaction."""

_ENDS = {"COMMIT", "ROLLBACK", "BEGIN", "START", "END", "ABORT"}
_ENDS_IN_MYSQL = {"ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "LOCK", "UNLOCK"}
"""The first words of statements that begin or end transactions; in MySQL, all that defines."""
_ABORTED = "25P02"
"""PostgreSQL: an earlier statement failed, and the transaction with it."""


class Guard:
    """What is known of a transaction in which a handler works."""

    def __init__(self) -> None:
        self.use = Use()
        self.lost: BaseException | None = None
        """The error by which the server ended it: with another try, all may be well."""
        self.ended: ProjectionError | None = None
        """What else ended it before its handler did."""
        self.was_rolled_back = False
        self.commits = False
        """Whether the bus is about to end it."""
        self._under_way = 0

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way."""
        return self._under_way > 0

    def failed(self, error: BaseException, *, is_disconnect: bool) -> None:
        """Takes note of a statement that failed."""
        self._under_way = max(self._under_way - 1, 0)
        if is_disconnect or code_of(error) in ENDS_TRANSACTION:
            self.lost = self.lost or error
        else:
            self.is_late(error)

    def is_late(self, error: BaseException) -> bool:
        """Returns whether an error only says that the transaction had ended; takes note of it."""
        is_late = isinstance(error, PendingRollbackError) or code_of(error) == _ABORTED
        if is_late and self.ended is None:
            self.ended = ProjectionError("the database had refused an earlier statement")
        return is_late

    def check_idle(self) -> None:
        """Raises: ProjectionError if a statement is under way."""
        if self.is_busy:
            raise ProjectionError(
                "the handler ended while an operation of its session was under way; await each one "
                "within the handler (a task too, or have an asyncio.TaskGroup do it)"
            )

    def told(self) -> ProjectionError:
        """Returns the error for a handler that went on after its transaction had ended."""
        assert self.ended is not None
        return swallowed(self.ended)

    def begins(self, statement: str, dialect: str) -> None:
        """Takes note of a statement. Raises: ProjectionError if it would end the transaction."""
        if not self.commits and _would_end(statement, dialect):
            raise refused(statement.split(None, 1)[0])
        self._under_way += 1

    def ends(self) -> None:
        """Takes note of a statement that succeeded."""
        self._under_way -= 1

    def committed(self) -> None:
        """Raises: ProjectionError unless it is the bus that commits."""
        if not self.commits:
            self.ended = refused("commit()")
            raise self.ended

    def rolled_back(self) -> None:
        """Takes note of a rollback."""
        self.was_rolled_back = True
        if self.ended is None:
            self.ended = ProjectionError("it was rolled back, as after a flush that failed")


def watch(engine: AsyncEngine) -> None:
    """Tells the guards of an engine's connections what happens there."""
    sync = engine.sync_engine

    @event.listens_for(sync, "before_cursor_execute")
    def begins(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if guard := _guard_of(connection):
            guard.begins(statement, connection.dialect.name)

    @event.listens_for(sync, "after_cursor_execute")
    def ends(connection: sa.Connection, *_: Any) -> None:
        if guard := _guard_of(connection):
            guard.ends()

    @event.listens_for(sync, "commit")
    def committed(connection: sa.Connection) -> None:
        if guard := _guard_of(connection):
            guard.committed()

    @event.listens_for(sync, "rollback")
    def rolled_back(connection: sa.Connection) -> None:
        if guard := _guard_of(connection):
            guard.rolled_back()

    @event.listens_for(sync, "handle_error")
    def failed(context: Any) -> None:
        if context.connection is not None and (guard := _guard_of(context.connection)):
            guard.failed(context.original_exception, is_disconnect=context.is_disconnect)


def _guard_of(connection: sa.Connection) -> Guard | None:
    guard: Guard | None = connection.get_execution_options().get(GUARD)
    return guard


class LentSession(orm.Session):
    """A session that does not end its transaction."""

    @property
    def _guard(self) -> Guard:
        guard: Guard = self.info[GUARD]
        return guard

    def begin(self, nested: bool = False) -> orm.SessionTransaction:
        if not nested:
            raise refused("begin()")
        self._guard.use.check("begin_nested")
        return super().begin(nested=True)

    def commit(self) -> None:
        raise refused("commit()")

    def rollback(self) -> None:
        raise refused("rollback()")

    def prepare(self) -> None:
        raise refused("prepare()")

    def close(self) -> None:
        raise refused("close()")

    def reset(self) -> None:
        raise refused("reset()")

    def invalidate(self) -> None:
        raise refused("invalidate()")

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the connection; everything that asks the server something comes by here."""
        self._guard.use.check("execute")
        return super().get_bind(*args, **kwargs)

    def flush(self, objects: Any = None) -> None:
        self._guard.use.check("flush")
        super().flush(objects)

    def finish(self) -> None:
        """Writes what is not yet written, and ends the session, for the bus."""
        self.flush()
        while (nested := self.get_nested_transaction()) is not None:
            nested.commit()
        super().close()


def finish(session: orm.Session) -> None:
    """Ends a session that was lent. Raises: the driver's errors, and those of mapped classes."""
    assert isinstance(session, LentSession)
    session.finish()


def lent(connection: AsyncConnection, guard: Guard) -> AsyncSession:
    """Returns a session for a transaction that has begun."""
    return AsyncSession(
        connection,
        sync_session_class=LentSession,
        expire_on_commit=False,
        join_transaction_mode="rollback_only",
        close_resets_only=False,
        info={GUARD: guard},
    )


def refused(what: str) -> ProjectionError:
    """Returns the error for what would end a handler's transaction."""
    return ProjectionError(
        f"the session of a handler: {what} is refused, because the bus commits what the handler "
        f"wrote together with its events, once it has returned; leave it out (raise an error to "
        f"have nothing stored, and use begin_nested() for what may fail alone)"
    )


def _would_end(statement: str, dialect: str) -> bool:
    words = statement.split(None, 2)
    first = words[0].upper().rstrip(";") if words else ""
    second = words[1].upper() if len(words) > 1 else ""
    if first == "ROLLBACK":
        return second != "TO"
    return first in _ENDS or (
        dialect != "postgresql" and first in _ENDS_IN_MYSQL and second != "TEMPORARY"
    )
