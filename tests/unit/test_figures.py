"""Numbers, at the call that they are given to: taken where they have one meaning, else refused."""

import math
from collections.abc import Callable
from datetime import timedelta
from enum import IntEnum
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    GIVE_UP,
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    NotCaughtUp,
    Projection,
    Receipt,
    Retry,
    RetryPolicy,
    Router,
    Settings,
    Update,
    Worker,
)
from bus.read.documents import Documents
from tests.unit.accounts import Account, Get, Open, Opened, View, open_account


class Number(IntEnum):
    FOUR = 4


NO_COUNTS = ["4", None, 1.5, 4.0, True, math.nan, -1, timedelta(seconds=4)]
TOO_MANY = 10**30
NO_SECONDS = ["60", None, True, math.nan, math.inf, -1, timedelta(seconds=-1), 10**400, [1]]


@pytest.mark.parametrize("given", [*NO_COUNTS, 0, TOO_MANY], ids=repr)
@pytest.mark.parametrize(
    ("place", "declare"),
    [
        (r"Router\('mails'\): concurrency=", lambda n: Router("mails", concurrency=n)),
        (
            r"Router\('mails'\): RetryPolicy: tries=",
            lambda n: Router("mails", retry=RetryPolicy(tries=n)),
        ),
        (
            r"Projection\('accounts'\): version=",
            lambda n: Projection("accounts", of=[Account], view=View, version=n),
        ),
        (
            r"Projection\('accounts'\): partitions=",
            lambda n: Projection("accounts", of=[Account], view=View, partitions=n),
        ),
    ],
    ids=["concurrency", "tries", "version", "partitions"],
)
def test_a_count_that_is_none_is_refused(
    place: str, declare: Callable[[Any], object], given: Any
) -> None:
    if given == TOO_MANY and "tries" in place:
        return  # as many as it says
    with pytest.raises(ConfigurationError, match=place) as refused:
        declare(given)
    assert "give a whole number" in str(refused.value)


@pytest.mark.parametrize("given", NO_COUNTS, ids=repr)
def test_a_number_of_events_after_which_a_snapshot_is_made_is_whole(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Purse: snapshot_every=.*give a whole number"):

        class Purse(Aggregate, snapshot_every=given): ...


def test_a_whole_number_of_any_type_is_taken() -> None:
    router = Router("mails", concurrency=Number.FOUR)
    assert (router.concurrency, type(router.concurrency)) == (4, int)


@pytest.mark.parametrize(
    "given", [one for one in NO_SECONDS if one is not None and one != math.inf] + [0], ids=repr
)
def test_a_time_limit_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Router\('mails'\): time_limit=.*give seconds"):
        Router("mails", time_limit=given)


@pytest.mark.parametrize(
    ("given", "limit"),
    [(60, 60.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (None, math.inf), (math.inf, math.inf)],
)
def test_a_time_limit_is_seconds_or_a_timedelta_or_none(given: Any, limit: float) -> None:
    assert Router("mails", time_limit=given).time_limit == limit


async def test_a_handler_without_a_time_limit_runs() -> None:
    router, ran = Router("mails", time_limit=None), list[str]()

    @router.command
    async def open_account(command: Open) -> str:
        ran.append(command.account_id)
        return command.account_id

    bus = Bus("bank", routers=[router], settings=Settings.in_memory())
    async with bus, Worker(bus):
        receipt = await bus.request(Open(account_id="a"), timeout=timedelta(seconds=10))
    assert (receipt.result, ran) == ("a", ["a"])


@pytest.mark.parametrize("given", NO_SECONDS, ids=repr)
@pytest.mark.parametrize("field", ["pause", "delays"])
def test_a_policy_of_other_than_seconds_is_refused(field: str, given: Any) -> None:
    values: dict[str, Any] = {field: given if field == "pause" else (5, given)}
    wrong = RetryPolicy(**values)
    with pytest.raises(
        ConfigurationError, match=rf"Router\('mails'\): RetryPolicy: {field}=.*give"
    ):
        Router("mails", retry=wrong)


@pytest.mark.parametrize("given", [5, "15", None, {5}, {5: 30}], ids=repr)
def test_delays_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"delays=.*give (a list|seconds)"):
        Router("mails", retry=RetryPolicy(delays=given))


def test_a_policy_may_name_timedeltas() -> None:
    times: Any = {"pause": timedelta(seconds=1), "delays": [timedelta(minutes=1), 5]}
    policy = RetryPolicy(**times)
    router = Router("mails", retry={ValueError: policy, KeyError: GIVE_UP})
    assert router.retry[ValueError] == RetryPolicy(pause=1.0, delays=(60.0, 5.0))
    assert router.retry[KeyError] is GIVE_UP


@pytest.mark.parametrize(
    "given", [None, 3, "3", RetryPolicy, (3, 0.1, ()), {ValueError: 3}, [RetryPolicy()]], ids=repr
)
def test_what_is_no_policy_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Router\('mails'\): retry=.*RetryPolicy\("):
        Router("mails", retry=given)


@pytest.mark.parametrize("given", [None, 7, b"mails", ["mails"]], ids=repr)
@pytest.mark.parametrize(
    "declare", [Router, lambda name: Projection(name, of=[Account], view=View)]
)
def test_a_name_that_is_no_text_is_refused(declare: Callable[[Any], object], given: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name becomes"):
        declare(given)


@pytest.mark.parametrize("name", ["r" * 300, "r" * 151, "é" * 76])
@pytest.mark.parametrize(
    "declare", [Router, lambda name: Projection(name, of=[Account], view=View)]
)
def test_a_name_that_no_queue_can_have_is_refused(
    declare: Callable[[str], object], name: str
) -> None:
    with pytest.raises(ConfigurationError, match="150 bytes at most"):
        declare(name)


def test_the_longest_names_make_queues_that_can_be() -> None:
    class Kept(Aggregate): ...

    class KeptView(BaseModel):
        owner: str

    router = Router("r" * 150)

    @router.event
    async def opened(event: Opened) -> None: ...

    projection = Projection("p" * 150, of=[Kept], view=KeptView, version=2**53 - 1, partitions=64)
    bus = Bus("s" * 50, routers=[router], projections=[projection], settings=Settings.in_memory())
    queues = [queue.name for queue in bus.runtime.topology.queues]
    assert max(map(len, queues)) > 200
    assert all(len(queue) + len("r1000000") <= 255 for queue in queues)


def test_a_services_name_counts_in_bytes() -> None:
    with pytest.raises(ConfigurationError, match="50 at most"):
        Bus("é" * 26, settings=Settings.in_memory())


# -- how long somebody waits


def bank() -> Bus:
    router, accounts = Router("accounts"), Projection("accounts_read", of=[Account], view=View)

    router.command(open_account)

    @router.query
    async def get(query: Get, documents: Documents[View]) -> View | None:
        return await documents.get(query.account_id)

    @accounts.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    return Bus("bank", routers=[router], projections=[accounts], settings=Settings.in_memory())


@pytest.mark.parametrize("given", NO_SECONDS, ids=repr)
async def test_a_wait_of_other_than_seconds_is_refused(given: Any) -> None:
    async with bank() as bus:
        receipt = await bus.execute(Open(account_id="a"))
        get = Get(account_id="a")
        with pytest.raises(ConfigurationError, match=r"query\(\): timeout=.*give seconds"):
            await bus.query(get, after=receipt, timeout=given)
        with pytest.raises(ConfigurationError, match=r"watch\(\): timeout=.*give seconds"):
            bus.watch(get, after=receipt, timeout=given)
        with pytest.raises(ConfigurationError, match=r"execute\(\): timeout=.*give seconds"):
            await bus.execute(Open(account_id="b"), after=receipt, timeout=given)
        with pytest.raises(ConfigurationError, match=r"request\(\): timeout=.*give seconds"):
            await bus.request(Open(account_id="b"), timeout=given)


async def test_a_request_that_waits_for_no_answer_is_refused() -> None:
    async with bank() as bus:
        with pytest.raises(
            ConfigurationError, match=r"request\(\): timeout=0: .*more than 0.*send"
        ):
            await bus.request(Open(account_id="b"), timeout=0)


async def test_a_wait_of_no_time_asks_once() -> None:
    bus = bank()
    async with bus:
        receipt = await bus.execute(Open(account_id="a"))
        get = Get(account_id="a")
        with pytest.raises(NotCaughtUp, match="has not caught up: version 1"):
            await bus.query(get, after=receipt, timeout=0)
        async with Worker(bus):
            found = await bus.query(get, after=receipt, timeout=timedelta(seconds=20))
            assert found == View(owner="Ada")
        assert await bus.query(get, after=receipt, timeout=0) == found
        assert await bus.query(get, after=Receipt("", {}), timeout=0) == found


async def test_documents_wait_for_seconds() -> None:
    router = Router("asking")

    class Ask(Command):
        timeout: Any

    @router.command
    async def ask(command: Ask, documents: Documents[View]) -> None:
        await documents.including(Receipt("", {"account-a": 1}), timeout=command.timeout)

    accounts = Projection("accounts_read", of=[Account], view=View)

    @accounts.on(Opened)
    def opened(event: Opened) -> Update:
        return {"$set": {"owner": event.owner}}

    settings = Settings.in_memory()
    async with Bus("bank", routers=[router], projections=[accounts], settings=settings) as bus:
        for given in ("5", None, -1):
            with pytest.raises(ConfigurationError, match=r"including\(\): timeout=.*give seconds"):
                await bus.execute(Ask(timeout=given))
        with pytest.raises(NotCaughtUp):
            await bus.execute(Ask(timeout=0))


@pytest.mark.parametrize("given", [*NO_SECONDS], ids=repr)
def test_a_later_try_is_after_seconds(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Retry\(\): delay=.*give seconds"):
        Retry(given)


def test_a_later_try_may_be_after_a_timedelta() -> None:
    assert (Retry(timedelta(minutes=1)).delay, Retry(0).delay) == (60.0, 0.0)
