"""What `DeadLetters` is given: ids, a group, a rate; what cannot be meant is said."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus import (
    GIVE_UP,
    Bus,
    Command,
    ConfigurationError,
    DeadLetterError,
    DeadLetters,
    Router,
    Settings,
    Worker,
)
from tests.waiting import until


class Pay(Command):
    amount: int


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    router = Router("payments", retry=GIVE_UP)

    @router.command
    async def pay(command: Pay) -> None:
        raise ValueError("no money")

    bus = Bus("shop", routers=[router], settings=Settings.in_memory())
    async with bus:
        async with Worker(bus):
            await bus.send(Pay(amount=1), id="a")
            await bus.send(Pay(amount=2), id="b")
            await until(lambda: two(bus), "both are given up")
        yield bus


async def two(bus: Bus) -> bool:
    return len(await DeadLetters(bus).list()) == 2


async def ids_of(bus: Bus) -> list[str]:
    return [one.id for one in await DeadLetters(bus).list()]


DOINGS = ["retry", "discard"]


@pytest.mark.parametrize("doing", DOINGS)
async def test_ids_in_a_list_are_told_how_to_be_given(bus: Bus, doing: str) -> None:
    ids = await ids_of(bus)
    for given in (ids, tuple(ids), set(ids)):
        with pytest.raises(DeadLetterError, match=rf"one by one, as in {doing}\(\*ids\)"):
            await getattr(DeadLetters(bus), doing)(given)
    assert await ids_of(bus) == ids


@pytest.mark.parametrize("given", [None, 7, b"shop.commands/a"], ids=repr)
async def test_an_id_that_is_no_text_is_told(bus: Bus, given: Any) -> None:
    letters = DeadLetters(bus)
    for call in (letters.retry, letters.discard, letters.show):
        with pytest.raises(DeadLetterError, match="the id of a dead letter must be text"):
            await call(given)
    with pytest.raises(DeadLetterError, match="the id of a dead letter must be text"):
        await letters.edit(given, {"amount": 1})


@pytest.mark.parametrize("doing", DOINGS)
async def test_a_group_that_is_not_there_is_told(bus: Bus, doing: str) -> None:
    with pytest.raises(DeadLetterError, match=r"group='typo': there is no such group.*groups"):
        await getattr(DeadLetters(bus), doing)(group="typo")


@pytest.mark.parametrize("doing", DOINGS)
async def test_an_id_that_is_not_there_is_told_beside_those_that_are(bus: Bus, doing: str) -> None:
    first, _ = await ids_of(bus)
    outcome = await getattr(DeadLetters(bus), doing)(first, "shop.commands/typo", "typo/stream-a")
    assert outcome.done == (first,)
    assert set(outcome.failed) == {"shop.commands/typo", "typo/stream-a"}
    with pytest.raises(DeadLetterError, match="there is no such dead letter"):
        await DeadLetters(bus).edit("shop.commands/typo", {"amount": 1})


@pytest.mark.parametrize("doing", DOINGS)
async def test_all_of_nothing_is_no_mistake(doing: str) -> None:
    async with Bus("shop", settings=Settings.in_memory()) as bus:
        assert await getattr(DeadLetters(bus), doing)(all=True) == ((), {})


@pytest.mark.parametrize("rate", ["5", 0, -1, float("nan"), True, [1]], ids=repr)
async def test_a_rate_that_is_none_is_refused(bus: Bus, rate: Any) -> None:
    with pytest.raises(DeadLetterError, match=r"rate=.*retries per second, a number above 0"):
        await DeadLetters(bus).retry(all=True, rate=rate)


@pytest.mark.parametrize("given", ["5", None, -1, 1.5, True], ids=repr)
async def test_how_many_are_listed_is_a_whole_number(bus: Bus, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"list\(\): limit=.*give a whole number"):
        await DeadLetters(bus).list(limit=given)
    with pytest.raises(ConfigurationError, match=r"list\(\): skip=.*give a whole number"):
        await DeadLetters(bus).list(skip=given)
    assert len(await DeadLetters(bus).list(limit=1, skip=1)) == 1
