from typing import Any

import pytest

from bus import Command, ConfigurationError, Event, Query, Router


class Open(Command):
    pass


class Opened(Event):
    pass


class Closed(Event):
    pass


class Get(Query[int]):
    pass


@pytest.fixture
def router() -> Router:
    return Router("accounts")


def test_a_decorator_registers_the_function_and_returns_it_unchanged(router: Router) -> None:
    async def open_account(command: Open, limit: int) -> str:
        return "done"

    assert router.command(open_account) is open_account
    (handler,) = router.handlers
    assert handler.messages == (Open,)
    assert [one.kind for one in handler.dependencies] == [int]
    assert handler.returns is str
    assert handler.name.endswith("open_account")


def test_an_event_handler_may_take_a_union(router: Router) -> None:
    @router.event
    async def on_change(event: Opened | Closed) -> None: ...

    assert router.handlers[0].messages == (Opened, Closed)


def test_a_handler_that_is_not_async_is_refused(router: Router) -> None:
    def open_account(command: Open) -> None: ...

    with pytest.raises(ConfigurationError, match="open_account: a command handler must be async"):
        router.command(open_account)  # type: ignore[type-var]


def test_a_parameter_without_a_type_is_refused(router: Router) -> None:
    async def open_account(command: Open, limit) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigurationError, match="'limit' has no type; annotate it"):
        router.command(open_account)


def test_a_handler_without_parameters_is_refused(router: Router) -> None:
    async def open_account() -> None: ...

    with pytest.raises(ConfigurationError, match="first parameter must be the message"):
        router.command(open_account)


def test_a_handler_of_the_wrong_kind_of_message_is_refused(router: Router) -> None:
    async def open_account(command: Opened) -> None: ...

    with pytest.raises(ConfigurationError, match="takes a subclass of Command"):
        router.command(open_account)

    async def anything(query: Any) -> int:
        return 1

    with pytest.raises(ConfigurationError, match="takes a subclass of Query"):
        router.query(anything)


def test_a_type_that_is_not_there_yet_is_named(router: Router) -> None:
    async def open_account(command: "NotYet") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"NotYet.*import them before"):
        router.command(open_account)


def test_a_second_handler_is_refused_and_both_are_named(router: Router) -> None:
    @router.command
    async def first(command: Open) -> None: ...

    async def second(command: Open) -> None: ...

    with pytest.raises(ConfigurationError, match=r"second: Open is handled by .*first"):
        router.command(second)


def test_a_name_that_cannot_be_a_queues_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="becomes a queue's"):
        Router("my accounts")
