"""What operations do to a service's database: it is noticed, nothing is fed wrongly, and one
command puts it right."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from bus import (
    Bus,
    ConcurrencyError,
    Discontinued,
    Recovery,
    Router,
    Session,
    Settings,
    StoreUnavailable,
    Worker,
)
from bus.cli.main import app
from bus.continuity import continuity
from bus.stores.event_log import Commit
from tests.service import mailing, wallet
from tests.service.rebuild_contract import (
    BankView,
    CountPurses,
    GetBank,
    GetPurse,
    Paid,
    Pay,
    PurseView,
    paid_into,
    service,
)
from tests.waiting import until
from tools.soak.backup import NO_VIEW

Database = Any
Backup = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is written down at each look, and looked at more often."""
    monkeypatch.setattr(continuity, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(continuity, "TURN_EVERY", 0)
    monkeypatch.setattr(continuity, "AGAIN_AFTER", 0.1)


@pytest.fixture
def database(real_settings: Settings) -> Iterator[Database]:
    with MongoClient[Any](real_settings.mongo_url) as client:
        yield client[real_settings.mongo_db]


@pytest.fixture
def make(real_settings: Settings, unique: str) -> Callable[..., Bus]:
    return partial(service, real_settings, unique)


@pytest.fixture
async def bus(make: Callable[..., Bus]) -> AsyncIterator[Bus]:
    async with make() as bus:
        yield bus


def backup(database: Database, *names: str) -> Backup:
    """What collections hold; all of them by default."""
    held = names or database.list_collection_names(filter=NO_VIEW)
    return {name: list(database[name].find()) for name in held}


def restore(database: Database, kept: Backup, *, anew: bool = False) -> None:
    """As a copy of the files would: in the same collections; or in others of these names."""
    for name, documents in kept.items():
        if anew:
            database.drop_collection(name)
            database.create_collection(name)
        database[name].delete_many({})
        if documents:
            database[name].insert_many(documents)


async def told(bus: Bus, *words: str) -> None:
    """Waits until health says so, and names the command."""

    async def says() -> bool:
        found = [one.what for one in (await bus.health()).problems]
        return any(all(w in what for w in (*words, "bus events recover")) for what in found)

    await until(says, f"health says {words}")


async def shown(bus: Bus) -> tuple[int, int, int]:
    """What readers see: the first purse, the bank, how many purses."""
    purse = await bus.query(GetPurse(purse_id="p0")) or PurseView(id="p0")
    return purse.total, (await bank(bus)), await bus.query(CountPurses())


async def bank(bus: Bus) -> int:
    return (await bus.query(GetBank()) or BankView(id="b")).total


async def settled(bus: Bus) -> None:
    """A payment more, and seen."""
    receipt = await bus.execute(Pay(purse_id="p0", amount=1))
    await bus.query(GetPurse(purse_id="p0"), after=receipt, timeout=30)
    await bus.query(GetBank(), after=receipt, timeout=30)


async def record_is_written(bus: Bus) -> None:
    runtime = bus.runtime
    await runtime.continuity.note_turn(await runtime.collections.identities(), {})
    await runtime.continuity.look()


async def test_a_log_that_is_older_than_what_was_made_of_it_is_noticed_and_recovered(
    bus: Bus, database: Database
) -> None:
    await paid_into(bus, 3)
    kept = backup(database, "commits")
    async with Worker(bus):
        receipt = await paid_into(bus, 4, amount=10)
        await bus.query(GetBank(), after=receipt)
        await record_is_written(bus)
        restore(database, kept)
        await told(bus, "the log is older", "it lacks")
        assert not (await bus.health()).ready
        receipt = await bus.execute(Pay(purse_id="p0", amount=100))  # takes the place of another

        plan = await Recovery(bus).run()
        assert set(plan.rebuilt) == {"purses__v1", "banks__v1"}
        assert await shown(bus) == (101, 103, 3)
        await settled(bus)
        assert await shown(bus) == (102, 104, 3)
        assert (await Recovery(bus).plan()).rebuilt == ()
        await until(partial(has_no_problem, bus), "all is well")


async def has_no_problem(bus: Bus) -> bool:
    return await bus.runtime.continuity.problem() is None


async def test_checkpoints_that_are_dropped_apply_nothing_twice(
    bus: Bus, database: Database
) -> None:
    async with Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
        database.drop_collection("checkpoints")
        receipts = [await bus.execute(Pay(purse_id=f"p{n}", amount=1)) for n in range(5)]
        await told(bus, "checkpoints")
        assert await bank(bus) == 3
        await bus.query(GetPurse(purse_id="p4"), after=receipts[-1])  # stands in its own document
        await Recovery(bus).run()
        await bus.query(GetBank(), after=receipts[-1], timeout=30)
        assert await bank(bus) == 8


async def test_checkpoints_of_a_backup_apply_nothing_twice(bus: Bus, database: Database) -> None:
    async with Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
        kept = backup(database, "checkpoints")
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
        await record_is_written(bus)
        restore(database, kept)
        await bus.execute(Pay(purse_id="p0", amount=1))
        await told(bus, "checkpoints")
        assert await bank(bus) == 6
        await Recovery(bus).run()
        await settled(bus)
        assert await bank(bus) == 8


@pytest.mark.parametrize("name", ["purses__v1", "banks__v1"])
async def test_a_read_collection_that_is_dropped_is_built_anew(
    bus: Bus, database: Database, name: str
) -> None:
    async with Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 20))
        await bus.query(CountPurses(), after=await paid_into(bus, 1))
        await record_is_written(bus)
        database.drop_collection(name)
        await told(bus, f"'{name}' was dropped")
        plan = await Recovery(bus).plan()
        assert plan.rebuilt == (name,)
        assert await Recovery(bus).run() == plan
        await settled(bus)
        assert await shown(bus) == (3, 22, 20)


async def test_what_is_dropped_while_nothing_runs_is_noticed_at_start(
    make: Callable[..., Bus], database: Database
) -> None:
    async with make() as bus, Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
    for name in ("checkpoints", "purses__v1"):
        database.drop_collection(name)
    async with make() as bus, Worker(bus):
        await told(bus, "'purses__v1'")
        await told(bus, "'checkpoints'")
        with pytest.raises(Discontinued):
            bus.runtime.continuity.check("purses__v1")
        await Recovery(bus).run()
        await settled(bus)
        assert await shown(bus) == (2, 4, 3)


async def test_projections_that_are_dropped_lose_no_document(
    make: Callable[..., Bus], database: Database
) -> None:
    async with make() as bus, Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
        database.drop_collection("projections")
        await told(bus, "'projections'")
    async with make() as bus:
        await Recovery(bus).run()
        async with Worker(bus):
            await settled(bus)
            assert await shown(bus) == (2, 4, 3)
            await until(partial(has_no_problem, bus), "all is well")


async def test_a_whole_database_of_a_backup_is_noticed_by_who_knew_a_later_one(
    bus: Bus, database: Database
) -> None:
    async with Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
        kept = backup(database)
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        for _ in range(2):
            await record_is_written(bus)
        restore(database, kept)
        await told(bus, "a backup was restored")
        await Recovery(bus).run()
        await settled(bus)
        assert await shown(bus) == (2, 4, 3)


def thanking() -> tuple[Router, list[int]]:
    """A router that thanks for each payment, and the amounts that it thanked for."""
    thanks, thanked = Router("thanks"), list[int]()

    @thanks.event
    async def thank(event: Paid) -> None:
        thanked.append(event.amount)

    return thanks, thanked


async def test_queues_that_are_ahead_of_a_restored_database_are_not_believed(
    make: Callable[..., Bus], database: Database
) -> None:
    thanks, thanked = thanking()
    make = partial(make, more=[thanks])
    async with make() as bus, Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await until(lambda: len(thanked) == 3, "all are thanked for")
        await record_is_written(bus)
    kept = backup(database)
    async with make() as bus:
        await paid_into(bus, 3, amount=10)  # these wait in the queues
    restore(database, kept)
    async with make() as bus, Worker(bus):
        await told(bus, "the log lacks what its queues tell of")
        assert await shown(bus) == (1, 3, 3)
        await Recovery(bus).run()
        await settled(bus)
        assert await shown(bus) == (2, 4, 3)
        await until(lambda: len(thanked) == 4, "thanking goes on")
        assert thanked == [1, 1, 1, 1]


async def test_what_handlers_did_since_the_backup_they_do_again(
    make: Callable[..., Bus], database: Database
) -> None:
    """At the backup it waited in a queue, and now in none."""
    thanks, thanked = thanking()
    make = partial(make, more=[thanks])
    async with make() as bus:
        await paid_into(bus, 3)
    kept = backup(database)
    async with make() as bus, Worker(bus):
        await until(lambda: len(thanked) == 3, "all are thanked for")
    restore(database, kept, anew=True)
    async with make() as bus:
        plan = await Recovery(bus).run(everything=True)
        assert plan.sent_again == ("commands", "thanks")
        async with Worker(bus):
            await settled(bus)
            await until(lambda: len(thanked) >= 3 + 3 + 1, "they are thanked again, and another")
            assert await shown(bus) == (2, 4, 3)


async def test_without_its_unique_index_the_log_stores_nothing_until_it_is_made_again(
    bus: Bus, database: Database
) -> None:
    await paid_into(bus, 3)
    database["commits"].drop_index("stream_1_first_1")
    with pytest.raises(StoreUnavailable, match=r"unique index \(stream, first\)"):
        await bus.execute(Pay(purse_id="p0", amount=1))

    async def stores() -> bool:
        try:
            return bool(await bus.execute(Pay(purse_id="p0", amount=1)))
        except StoreUnavailable:
            return False

    await until(stores, "the index is made again")
    assert "stream_1_first_1" in database["commits"].index_information()


async def test_a_unique_index_that_cannot_be_made_again_is_told(
    bus: Bus, make: Callable[..., Bus], database: Database
) -> None:
    await paid_into(bus, 1)
    database["commits"].drop_index("stream_1_first_1")
    (one,) = database["commits"].find()
    database["commits"].insert_one({**one, "_id": "another"})

    async def says() -> bool:
        problems = (await bus.health()).problems
        return any("purse-p0 at 1, for one" in one.what for one in problems)

    await until(says, "health says which place is taken twice")
    assert not (await bus.health()).ready
    with pytest.raises((StoreUnavailable, ConcurrencyError), match="unique index"):
        await bus.execute(Pay(purse_id="p9", amount=1))
    with pytest.raises(Exception, match="purse-p0 at 1, for one"):
        async with make():
            pass
    database["commits"].delete_one({"_id": "another"})
    await until(partial(_pays, bus), "it goes on")


async def _pays(bus: Bus) -> bool:
    try:
        return bool(await bus.execute(Pay(purse_id="p9", amount=1)))
    except StoreUnavailable:
        return False


async def test_recovering_is_dry_first_and_repeated_as_one_likes(
    make: Callable[..., Bus],
    database: Database,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PURSES_SERVICE", environment.mongo_db)
    async with make() as bus, Worker(bus):
        await bus.query(GetBank(), after=await paid_into(bus, 3))
        await record_is_written(bus)
    database.drop_collection("purses__v1")

    async def recover(*options: str) -> Any:
        words = ["events", "recover", "tests.service.test_recovery:build_named", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, [*words, *options])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    said = await recover("--dry-run")
    assert (said["rebuilt"], said["done"]) == (["purses__v1"], False)
    assert "'purses__v1' was dropped" in said["broken"]["purses__v1"]
    assert (await recover())["rebuilt"] == ["purses__v1"]
    said = await recover()
    assert (said["broken"], said["rebuilt"], said["done"]) == ({}, [], True)
    async with make() as bus, Worker(bus):
        await settled(bus)
        assert await shown(bus) == (2, 4, 3)


def build_named(settings: Settings) -> Bus:
    """As the command line loads it."""
    return service(settings, os.environ["PURSES_SERVICE"])


async def test_marks_of_events_that_the_log_lost_are_dropped_and_others_stay(
    real_settings: Settings, unique: str
) -> None:
    """Else an event of the same id, of a command that is repeated after the backup, would be
    skipped."""
    async with mailing.build(real_settings, service=unique) as bus:
        receipt = await bus.execute(wallet.Pay(wallet_id="a", amount=1))
        lost, kept = (f"{unique}.mailing/{id}:1" for id in ("0" * 32, receipt.id))
        for mark in (lost, kept):
            await bus.runtime.effects.once(mark, nothing)
        assert (await Recovery(bus).run()).marks == 1
        assert await bus.runtime.effects.marks("", 10) == [kept]


async def nothing(session: Session) -> list[Commit]:
    """A handler without effects."""
    return []
