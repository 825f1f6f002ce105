import pytest

from bus import Bus, Command, ConfigurationError, Query, Router, Session, Settings


class Write(Command):
    pass


class Ask(Query[int]):
    pass


def test_a_command_may_not_ask_for_a_session_and_is_told_what_to_do_instead() -> None:
    router = Router("writing")

    @router.command
    async def write(command: Write, session: Session) -> None: ...

    with pytest.raises(
        ConfigurationError,
        match=r"write: parameter '\w+': only event handlers can take Session; .*Repository",
    ):
        Bus("writing", routers=[router], settings=Settings.in_memory())


def test_a_query_may_not_ask_for_a_session_and_is_told_what_to_do_instead() -> None:
    router = Router("asking")

    @router.query
    async def ask(query: Ask, session: Session) -> int:
        return 1

    with pytest.raises(
        ConfigurationError, match=r"ask: parameter '\w+': .* cannot take Session; .*Documents"
    ):
        Bus("asking", routers=[router], settings=Settings.in_memory())
