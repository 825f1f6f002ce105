import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from bus import (
    Aggregate,
    AggregateNotFound,
    Bus,
    Command,
    ConcurrencyError,
    ConfigurationError,
    Documents,
    Envelope,
    Event,
    InvalidMessage,
    NoHandler,
    Outbox,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
)


class Open(Command):
    account_id: str
    owner: str = "Ada"


class Deposit(Command):
    account_id: str
    amount: int


class Transfer(Command):
    source: str
    target: str
    amount: int


class Unhandled(Command):
    pass


class Opened(Event):
    owner: str


class Deposited(Event):
    amount: int


class Noted(Event):
    text: str


class Overdrawn(Exception):
    pass


class Account(Aggregate, snapshot_every=3):
    owner: str = ""
    balance: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Opened():
                self.owner = event.owner
            case Deposited():
                self.balance += event.amount

    def deposit(self, amount: int) -> None:
        self.record(Deposited(amount=amount))
        if self.balance < 0:
            raise Overdrawn(self.id)


class AccountView(BaseModel):
    owner: str


class Limits(BaseModel):
    most: int = 1000


class CountAccounts(Query[int]):
    pass


accounts = Router("accounts")
views = Projection("views", of=[Account], view=AccountView)


@accounts.command
async def open_account(command: Open, repository: Repository[Account]) -> str:
    account = Account(command.account_id)
    account.record(Opened(owner=command.owner))
    repository.add(account)
    return f"opened for {command.owner}"


@accounts.command
async def deposit(
    command: Deposit, repository: Repository[Account], limits: Limits, envelope: Envelope
) -> int:
    assert envelope.message is command
    assert limits.most == 1000
    account = await repository.get(command.account_id)
    await asyncio.sleep(0)
    account.deposit(command.amount)
    return account.balance


@accounts.command
async def transfer(command: Transfer, repository: Repository[Account], outbox: Outbox) -> None:
    (await repository.get(command.source)).deposit(-command.amount)
    (await repository.get(command.target)).deposit(command.amount)
    outbox.publish(Noted(text="moved"))
    outbox.send(Deposit(account_id=command.source, amount=1))


@accounts.query
async def count_accounts(query: CountAccounts, documents: Documents[AccountView]) -> int:
    return await documents.count({})


def build(**options: Any) -> Bus:
    return Bus(
        "bank",
        routers=[accounts],
        projections=[views],
        settings=Settings.in_memory(),
        provide={Limits: Limits()},
        **options,
    )


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with build() as bus:
        yield bus


async def test_a_command_is_stored_and_its_receipt_tells_what(bus: Bus) -> None:
    receipt = await bus.execute(Open(account_id="a"), correlation_id="c", headers={"tenant": "t"})
    assert receipt.versions == {"account-a": 1}
    assert receipt.result == "opened for Ada"
    (commit,) = await bus.runtime.event_log.read("account-a")
    assert (commit.id, commit.correlation_id, commit.headers) == (receipt.id, "c", {"tenant": "t"})
    assert [(event.name, event.data) for event in commit.events] == [("Opened", {"owner": "Ada"})]


async def test_an_unroutable_command_is_an_error_that_says_the_remedy(bus: Bus) -> None:
    with pytest.raises(NoHandler, match=r"Unhandled; is its router in Bus\(routers"):
        await bus.execute(Unhandled())


async def test_a_handler_that_raises_stores_nothing(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    with pytest.raises(Overdrawn):
        await bus.execute(Deposit(account_id="a", amount=-1))
    assert len(await bus.runtime.event_log.read("account-a")) == 1


async def test_an_aggregate_that_does_not_exist_is_not_found(bus: Bus) -> None:
    with pytest.raises(AggregateNotFound, match="there is no Account 'a'"):
        await bus.execute(Deposit(account_id="a", amount=1))


async def test_adding_an_aggregate_that_exists_is_a_conflict(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    with pytest.raises(ConcurrencyError):
        await bus.execute(Open(account_id="a"))


async def test_commands_on_one_aggregate_are_retried_on_fresh_state(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    receipts = await asyncio.gather(
        *(bus.execute(Deposit(account_id="a", amount=1)) for _ in range(8))
    )
    assert sorted(receipt.result for receipt in receipts) == list(range(1, 9))


async def test_a_repeated_command_id_gets_the_first_receipt(bus: Bus) -> None:
    first = await bus.execute(Open(account_id="a"), id="k1")
    again = await bus.execute(Open(account_id="a"), id="k1")
    assert again == first
    await bus.execute(Deposit(account_id="a", amount=5), id="k2")
    await bus.execute(Deposit(account_id="a", amount=-5))
    repeated = await bus.execute(Deposit(account_id="a", amount=5), id="k2")
    assert (repeated.result, repeated.versions) == (5, {"account-a": 2})
    assert len(await bus.runtime.event_log.read("account-a")) == 3


async def test_repeats_at_the_same_time_are_carried_out_once(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    command = Deposit(account_id="a", amount=5)
    receipts = await asyncio.gather(*(bus.execute(command, id="k") for _ in range(5)))
    assert {(r.id, r.result, str(r.versions)) for r in receipts} == {("k", 5, "{'account-a': 2}")}
    assert len(await bus.runtime.event_log.read("account-a")) == 2


async def test_several_streams_and_what_is_sent_are_stored_together(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    await bus.execute(Open(account_id="b"))
    await bus.execute(Deposit(account_id="a", amount=10))
    receipt = await bus.execute(Transfer(source="a", target="b", amount=4))
    assert receipt.versions == {"account-a": 3, "account-b": 2, f"bank-{receipt.id}": 1}
    commits = await bus.runtime.event_log.find(receipt.id)
    assert [commit.id for commit in commits] == [receipt.id, f"{receipt.id}/2", f"{receipt.id}/3"]
    assert [command.name for command in commits[0].outgoing] == ["Deposit"]


async def test_several_streams_are_stored_all_or_none(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    await bus.execute(Open(account_id="b"))
    with pytest.raises(Overdrawn):
        await bus.execute(Transfer(source="a", target="b", amount=4))
    assert len(await bus.runtime.event_log.read("account-b")) == 1


async def test_snapshots_shorten_loading_and_change_nothing(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    for _ in range(7):
        await bus.execute(Deposit(account_id="a", amount=1))
    snapshot = await bus.runtime.event_log.snapshot("account-a")
    assert snapshot is not None
    assert snapshot.version == 6
    assert (await bus.execute(Deposit(account_id="a", amount=1))).result == 8


async def test_a_published_fact_stands_in_the_services_own_stream(bus: Bus) -> None:
    receipt = await bus.publish(Noted(text="hello"))
    (commit,) = await bus.runtime.event_log.find(receipt.id)
    assert (commit.category, commit.stream) == ("bank", f"bank-{receipt.id}")


async def test_middleware_goes_round_every_handler_first_one_outermost() -> None:
    seen: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        async def middleware(envelope: Envelope, following: Callable[..., Any]) -> Any:
            seen.append(f"{name} before {envelope.name}")
            result = await following(envelope)
            seen.append(f"{name} after")
            return result

        return middleware

    async with build(middleware=[noting("outer"), noting("inner")]) as bus:
        await bus.execute(Open(account_id="a"))
        assert await bus.query(CountAccounts()) == 0
    assert seen[:4] == ["outer before Open", "inner before Open", "inner after", "outer after"]
    assert seen[4] == "outer before CountAccounts"


async def test_an_id_or_a_header_that_cannot_travel_is_refused(bus: Bus) -> None:
    with pytest.raises(InvalidMessage, match="the id of a message must be printable"):
        await bus.execute(Open(account_id="a"), id="a\n")
    with pytest.raises(InvalidMessage, match="header 'stream'"):
        await bus.execute(Open(account_id="a"), headers={"stream": "x"})


def test_a_dependency_that_nobody_provides_fails_at_the_start() -> None:
    with pytest.raises(
        ConfigurationError, match=r"deposit: .*: nobody provides Limits; give a value"
    ):
        Bus("bank", routers=[accounts], projections=[views], settings=Settings.in_memory())


def test_documents_of_a_view_that_no_projection_declares_fail_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"declares view=AccountView; add it"):
        Bus("bank", routers=[accounts], settings=Settings.in_memory(), provide={Limits: Limits()})


def test_a_query_that_wants_to_change_something_fails_at_the_start() -> None:
    router = Router("odd")

    @router.query
    async def odd(query: CountAccounts, repository: Repository[Account]) -> int:
        return 0

    with pytest.raises(ConfigurationError, match="a query changes nothing"):
        Bus("bank", routers=[router], settings=Settings.in_memory())


def test_a_second_handler_in_another_router_fails_at_the_start() -> None:
    other = Router("other")

    @other.command
    async def also(command: Open) -> None: ...

    with pytest.raises(ConfigurationError, match=r"also: Open is handled by .*open_account"):
        Bus("bank", routers=[accounts, other], projections=[views], provide={Limits: Limits()},
            settings=Settings.in_memory())  # fmt: skip


@pytest.mark.parametrize("name", ["Bank", "my bank", "", "x" * 51])
def test_a_service_name_that_cannot_name_queues_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="exchanges and queues"):
        Bus(name, settings=Settings.in_memory())


def test_names_of_queues_are_used_once() -> None:
    with pytest.raises(ConfigurationError, match="rename one of views"):
        Bus("bank", routers=[Router("views")], projections=[views], settings=Settings.in_memory())


class Nap(Command):
    pass


naps: list[int] = []
sleeping = Router("sleeping")


@sleeping.command
async def nap(command: Nap) -> int:
    naps.append(1)
    return len(naps)


async def test_a_command_that_records_nothing_is_carried_out_once_per_id_too() -> None:
    async with Bus("bank", routers=[sleeping], settings=Settings.in_memory()) as bus:
        first = await bus.execute(Nap(), id="k")
        assert await bus.execute(Nap(), id="k") == first
        assert await bus.execute(Nap(), id="other") != first


async def test_an_id_used_for_another_kind_of_message_is_refused(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"), id="k")
    with pytest.raises(InvalidMessage, match="the id k was used before, by Open"):
        await bus.execute(Deposit(account_id="a", amount=1), id="k")
    with pytest.raises(InvalidMessage, match="was used before, by Open"):
        await bus.publish(Noted(text="x"), id="k")


async def test_an_id_that_could_be_another_commands_is_refused(bus: Bus) -> None:
    with pytest.raises(InvalidMessage, match="must not have a slash"):
        await bus.execute(Open(account_id="a"), id="k/2")


@pytest.mark.parametrize(
    "options", [{"correlation_id": "c" * 3000}, {"headers": {"big": "x" * 40_000}}]
)
async def test_what_could_not_be_published_is_refused_before_it_is_stored(
    bus: Bus, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidMessage):
        await bus.execute(Open(account_id="a"), **options)
    assert await bus.runtime.event_log.read("account-a") == []


async def test_one_aggregate_asked_for_twice_at_once_is_one_object(bus: Bus) -> None:
    await bus.execute(Open(account_id="a"))
    repository = Repository(Account, bus.runtime.event_log)
    first, second = await asyncio.gather(repository.get("a"), repository.get("a"))
    assert first is second


async def test_a_snapshot_that_fails_does_not_fail_the_command(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(bus.runtime.event_log, "save_snapshot", broken)
    await bus.execute(Open(account_id="a"))
    for number in range(1, 5):
        assert (await bus.execute(Deposit(account_id="a", amount=1))).result == number


async def test_a_result_that_is_not_as_declared_fails_before_anything_is_stored() -> None:
    router = Router("odd")

    @router.command
    async def odd(command: Open, repository: Repository[Account]) -> str:
        account = Account(command.account_id)
        account.record(Opened(owner="Ada"))
        repository.add(account)
        return 5  # type: ignore[return-value]

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(InvalidMessage, match="what it returned, of type"):
            await bus.execute(Open(account_id="a"))
        assert await bus.runtime.event_log.read("account-a") == []


def test_an_aggregates_events_of_one_name_fail_at_the_start() -> None:
    class Again(Event, formerly=["Opened"]):
        pass

    class Odd(Aggregate, events=[Opened, Again]):
        pass

    router = Router("odd")

    @router.command
    async def open_odd(command: Open, repository: Repository[Odd]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Odd: .*both travel as 'Opened'"):
        Bus("bank", routers=[router], settings=Settings.in_memory())


async def test_a_fact_published_under_its_former_name_is_not_published_again() -> None:
    class Rang(Event):
        pass

    class BellRang(Event, formerly=["Rang"]):
        pass

    async with Bus("bank", settings=Settings.in_memory()) as bus:
        first = await bus.publish(Rang(), id="ring-1")
        assert await bus.publish(BellRang(), id="ring-1") == first


def test_event_handlers_are_bound_by_former_names_too() -> None:
    class BellRang(Event, formerly=["Rang"]):
        pass

    router = Router("bells")

    @router.event
    async def on_bell(event: BellRang) -> None: ...

    bus = Bus("bank", routers=[router], settings=Settings.in_memory())
    (queue,) = [one for one in bus.runtime.topology.queues if one.name == "bank.bells"]
    assert queue.topics == ("*.BellRang.*", "*.Rang.*")


def test_the_names_that_a_service_knows_are_those_of_all_its_readers() -> None:
    class Recorded(Event, formerly=["Written"]):
        pass

    class Fed(Event):
        pass

    class Handled(Event):
        pass

    class Projected(Event):
        pass

    class Book(Aggregate, events=[Recorded]):
        pass

    class Shelf(Aggregate, events=[Fed]):
        pass

    class BookView(BaseModel):
        id: str

    router, books = Router("odd"), Projection("books", of=[Shelf], view=BookView)

    @router.command
    async def open_odd(command: Open, repository: Repository[Book]) -> None: ...

    @router.event
    async def on_handled(event: Handled) -> None: ...

    @books.on(Projected)
    def projected(event: Projected) -> None: ...

    bus = Bus("b", routers=[router], projections=[books], settings=Settings.in_memory())
    known = {"Recorded", "Written", "Fed", "Handled", "Projected", "Fault"}
    assert bus.runtime.known_names == known


def test_two_messages_of_one_name_fail_at_the_start() -> None:
    class Other(Event, name="Opened"):
        pass

    router = Router("odd")

    @router.event
    async def on_other(event: Other) -> None: ...

    @router.event
    async def on_opened(event: Opened) -> None: ...

    with pytest.raises(ConfigurationError, match="both travel as 'Opened'"):
        Bus("bank", routers=[router], settings=Settings.in_memory())
