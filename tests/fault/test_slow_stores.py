"""A store whose answers come late, trickle, or come later than they are waited for."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

import pytest

from bus import Command, Receipt, Settings
from tests.fault.counting import (
    COUNTER,
    JOURNAL,
    TRY,
    Add,
    Client,
    Enter,
    build,
    entries,
    make_journals,
)
from tests.waiting import patience
from tools.faults import Proxy

PLACES = ("a", "b", "c")
WHERE = (*"aaaa", "b", "c")


class Slow(NamedTuple):
    """Seconds for each chunk in each direction, or for each so many bytes of it."""

    delay: float
    piece: int = 0


LATE, TRICKLING, TOO_LATE = Slow(0.1), Slow(0.01, 100), Slow(6.0)
CALLS_END_WITHIN = 45.0


def through(settings: Settings, proxy: Proxy) -> Settings:
    where = {"log_url": proxy.url} if settings.log_url else {"mongo_url": proxy.url}
    return settings.model_copy(update=where)


def proxy_of(settings: Settings) -> Proxy:
    return Proxy(settings.log_url or settings.mongo_url)


def sent() -> dict[str, Command]:
    """Some in places of their own, some that meet."""
    places = enumerate(WHERE)
    return {f"{kind.__name__}{n}": kind(to=to) for n, to in places for kind in (Add, Enter)}


@pytest.mark.parametrize("slow", [LATE, TRICKLING], ids=["late", "trickling"])
async def test_commands_of_a_slow_store_get_their_outcomes_and_happen_once(
    store_settings: Settings, slow: Slow
) -> None:
    await make_journals(store_settings, PLACES)
    async with (
        proxy_of(store_settings) as proxy,
        build(through(store_settings, proxy)) as bus,
    ):
        client = Client(bus, "slow")
        proxy.delay, proxy.piece = slow
        async with asyncio.timeout(60 * patience()):
            receipts = await asyncio.gather(
                *[client.until_known(command, id) for id, command in sent().items()]
            )
            again = await asyncio.gather(
                *[client.until_known(command, id) for id, command in sent().items()]
            )
        assert again == receipts
        proxy.delay, proxy.piece = Slow(0.0)
        await check(store_settings, client, dict(zip(sent(), receipts, strict=True)))


async def test_answers_that_nobody_waits_for_any_more_make_no_word_untrue(
    store_settings: Settings,
) -> None:
    await make_journals(store_settings, PLACES)
    async with (
        proxy_of(store_settings) as proxy,
        build(through(store_settings, proxy)) as bus,
    ):
        client = Client(bus, "slow")
        assert await client.once(Add(to="b"), "before")
        proxy.delay, proxy.piece = TOO_LATE
        began = time.monotonic()
        await asyncio.gather(*[client.once(command, id) for id, command in sent().items()])
        assert time.monotonic() - began < CALLS_END_WITHIN * patience()
        assert Counter(client.said.values())["accepted"] == 1
        await asyncio.sleep(2 * TOO_LATE.delay)  # what is under way arrives
        proxy.delay = 0.0
        async with asyncio.timeout(60 * patience()):
            receipts = await asyncio.gather(
                *[client.until_known(command, id) for id, command in sent().items()]
            )
        before = await client.until_known(Add(to="b"), "before")
        await check(
            store_settings, client, {**dict(zip(sent(), receipts, strict=True)), "before": before}
        )


async def check(settings: Settings, client: Client, receipts: dict[str, Receipt]) -> None:
    """The log, past the proxy, has each command once, at its receipt's version, and stored by no
    try that was told otherwise; sessions counted the same."""
    found: dict[str, dict[str, int]] = {}
    async with build(settings) as bus:
        for place in PLACES:
            for stream in (f"{COUNTER}{place}", f"{JOURNAL}{place}"):
                stored = await bus.runtime.event_log.read(stream)
                assert [commit.first for commit in stored] == [*range(1, len(stored) + 1)]
                for commit in stored:
                    assert commit.id not in found
                    found[commit.id] = {stream: commit.first}
                    assert client.said[commit.headers[TRY]] in ("accepted", "OutcomeUnknown")
    assert found == {id: receipt.versions for id, receipt in receipts.items()}
    assert await entries(settings) == Counter(WHERE)
