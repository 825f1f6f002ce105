import pytest

from bus import Bus, Command, ConfigurationError, Query, Router, Session, Settings
from bus.dispatch.dependencies import Provided, bind, takes_session


class Write(Command):
    pass


class WriteRows(Command):
    pass


class Ask(Query[int]):
    pass


def test_a_session_of_another_store_is_refused_with_the_one_that_this_bus_lends() -> None:
    class Rows:
        """What a store of tables lends."""

    router = Router("writing")

    @router.command
    async def write(command: Write, session: Session) -> None: ...

    @router.command
    async def ask_for_rows(command: WriteRows, session: Rows) -> None: ...

    write_handler, rows_handler = router.handlers
    provided = Provided({}, {}, Rows)
    with pytest.raises(
        ConfigurationError,
        match=r"write: parameter 'session': handlers are lent .* is Rows for this bus; take",
    ):
        bind(write_handler, provided)
    bind(rows_handler, provided)
    assert takes_session(rows_handler, provided)
    assert not takes_session(write_handler, provided)


def test_a_query_may_not_ask_for_a_session_and_is_told_what_to_do_instead() -> None:
    router = Router("asking")

    @router.query
    async def ask(query: Ask, session: Session) -> int:
        return 1

    with pytest.raises(
        ConfigurationError, match=r"ask: parameter '\w+': .* cannot take Session; .*Documents"
    ):
        Bus("asking", routers=[router], settings=Settings.in_memory())
