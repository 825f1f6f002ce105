"""What a whole service comes through while its MongoDB changes primaries, or the wire tears."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pymongo import WriteConcern

from bus import Bus, Envelope, Projection, Settings, Worker
from bus.codec import envelopes_of, event_frames
from bus.errors import OutcomeUnknown, StoreUnavailable
from bus.failures.give_up import GiveUp
from bus.following.feeding import Feeding
from bus.following.protocol import AskStreams
from bus.following.sender import HistorySender, ReplayConsumer
from bus.kafka import KafkaFeed
from bus.read import sweeper
from bus.read.projector import Projector
from bus.read.sweeper import Sweeper
from bus.stores.collections import Target
from bus.stores.event_log import Commit, Recorded
from bus.stores.mongo import MongoEventLog, connect, followed_log
from bus.stores.mongo.clock import ServerClock
from bus.stores.records import commit_document
from bus.transports.base import Frame
from bus.transports.feed import Fed
from tests.databases import lent_client
from tests.fault.conftest import Recovered
from tests.fault.load import Payments
from tests.leaks import nothing_left
from tests.service.feeding import reports
from tests.service.wallet import Diary, build
from tests.waiting import until
from tools.faults import MongoSet, Proxy, Towards
from tools.faults.mongo_set import Member, directly

TIME = datetime(2026, 1, 2, tzinfo=UTC)

UNCLEAR = OutcomeUnknown, StoreUnavailable

Fault = Callable[[MongoSet], Member]


@pytest.fixture(scope="module")
def replicas_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoSet]:
    with MongoSet(tmp_path_factory.mktemp("mongodb")) as replicas:
        yield replicas


@pytest.fixture
def replicas(replicas_of_module: MongoSet) -> MongoSet:
    """All three run, whatever the test before has left."""
    replicas_of_module.start()
    return replicas_of_module


@asynccontextmanager
async def paying(amqp_url: str, mongo_url: str, service: str) -> AsyncIterator[Payments]:
    """A service with its worker, and payments that flow; afterwards each must have come through."""
    settings = Settings(amqp_url=amqp_url, mongo_url=mongo_url, mongo_db=service)
    diary = Diary()
    async with (
        nothing_left(amqp_url, mongo_url),
        build(settings, diary, service) as bus,
        Worker(bus),
    ):
        payments = Payments(bus, diary)
        async with payments.flowing():
            yield payments
        await payments.expect_each_once()


def kill(replicas: MongoSet) -> Member:
    primary = replicas.await_primary()
    primary.kill()
    return primary


def freeze(replicas: MongoSet) -> Member:
    primary = replicas.await_primary()
    primary.pause()
    return primary


def nothing(node: Member) -> None:
    """A member that stepped down needs no help."""


FAULTS: dict[str, tuple[Fault, Callable[[Member], None]]] = {
    "killed": (kill, Member.start),
    "stepped down": (MongoSet.step_down, nothing),
    "frozen": (freeze, Member.resume),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_primary_that_fails(
    replicas: MongoSet, amqp_url: str, unique: str, fault: str, recovered: Recovered
) -> None:
    breaking, mending = FAULTS[fault]
    async with paying(amqp_url, replicas.url, unique) as payments:
        before = await asyncio.to_thread(breaking, replicas)
        try:
            await asyncio.to_thread(replicas.await_writes, before)
            took = await payments.recovery(within=30)
            recovered(f"a primary {fault}, from when a majority holds writes again", took, 10)
        finally:
            await asyncio.to_thread(mending, before)
        await payments.recovery(within=20)


async def test_a_primary_decides_by_all_that_it_holds_and_promises_what_a_majority_holds(
    replicas: MongoSet, unique: str
) -> None:
    """So it is after an election: the new primary has it all, and does not know of whom else."""
    async with lent_client(connect(replicas.url)) as client:
        log = MongoEventLog(client, unique)
        await log.open()
        primary = replicas.await_primary()
        with following_stopped([node for node in replicas.nodes if node is not primary]):
            unconfirmed = client[unique]["commits"].with_options(write_concern=WriteConcern(1))
            await unconfirmed.insert_one(commit_document(commit(unique)))
            assert await log.read(f"job-{unique}") == [commit(unique)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await log.find(unique)

        async def found() -> list[Commit]:
            with suppress(StoreUnavailable):  # no majority has copied it yet
                return await log.find(unique)
            return []

        assert await until(found, "a majority holds it") == [commit(unique)]
        await log.close()


async def test_a_feed_is_settled_only_once_a_majority_holds_what_it_brought(
    replicas: MongoSet, amqp_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_log, "KEEP_WITHIN", 1.0)
    feed = KafkaFeed("bank", topic="bank", url="kafka://nowhere.invalid:9092")
    async with reports(settings_of(replicas, amqp_url, unique), unique, feed) as bus:
        runtime = bus.runtime
        assert runtime.followed is not None
        feeding = Feeding(runtime, runtime.followed, feed, ["account"], GiveUp(runtime))
        await feeding._begin()
        event = Recorded("Paid", 1, {"amount": 1})
        paid = Commit("c", "account-a", "account", 1, (event,), TIME, "c")
        taken = [Fed(frame, "here") for frame in event_frames(paid)]
        with following_stopped(await followers(replicas)):
            for _ in range(2):  # the second time, the primary holds it already
                with pytest.raises(UNCLEAR):
                    await feeding._take_in(taken)

        async def taken_in() -> bool:
            with suppress(*UNCLEAR):
                await feeding._take_in(taken)
                return True
            return False

        await until(taken_in, "a majority holds it")
        assert await runtime.followed.heads(["account-a"]) == {"account-a": 1}


async def test_what_no_majority_held_during_a_sweep_is_found_by_a_later_one(
    replicas: MongoSet, amqp_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_OVERLAP", timedelta(0))
    async with build(settings_of(replicas, amqp_url, unique), Diary(), unique) as bus:
        projection, target = await wallets_of(bus)
        projector = bus.runtime.projector(projection, target, "test")
        runtime = bus.runtime
        sweeping = Sweeper(projector, runtime.read_log, runtime.collections, runtime.control)
        stream = f"wallet-{unique}"
        with following_stopped(await followers(replicas)):
            await insert_at_primary(
                replicas, bus.runtime.service, paid_into(stream, 1, runtime.event_log.now())
            )
            now = ServerClock.now  # a minute later, it stands still as yet
            monkeypatch.setattr(ServerClock, "now", lambda self: now(self) + timedelta(minutes=1))
            with suppress(*UNCLEAR):
                await sweeping.sweep()
        await until(lambda: runtime.control.swept(target), "a majority holds its mark")

        async def found() -> bool:
            await sweeping.sweep()
            return await runtime.collections.versions(target, [stream]) == {stream: 1}

        await until(found, "it is applied")
        await projector.close()


async def test_what_may_yet_be_rolled_back_is_sent_to_no_follower(
    replicas: MongoSet, amqp_url: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(settings_of(replicas, amqp_url, unique), Diary(), unique) as bus:
        stream, sent = f"wallet-{unique}", list[int]()
        replays = ReplayConsumer(
            unique,
            bus.runtime.event_log,
            bus.runtime.transport,
            bus.runtime.control,
            GiveUp(bus.runtime),
        )
        sender = HistorySender("follower", bus.runtime.transport)

        async def send(frame: Frame) -> None:
            sent.append(int(frame.headers["version"]))

        monkeypatch.setattr(sender, "_event", send)
        question = AskStreams(
            service="follower", category="wallet", token="token", streams={stream: 0}
        )
        async with one_held_and_one_not(bus, replicas, stream):
            with suppress(*UNCLEAR):
                await replays._send_streams(question, sender)
            assert 2 not in sent
        sent.clear()
        await replays._send_streams(question, sender)
        assert sent == [1, 2]


async def test_what_may_yet_be_rolled_back_is_written_to_no_place_that_would_keep_it(
    replicas: MongoSet, amqp_url: str, unique: str
) -> None:
    async with build(settings_of(replicas, amqp_url, unique), Diary(), unique) as bus:
        projection, target = await wallets_of(bus)
        here = bus.runtime.projector(projection, target, "here")
        elsewhere = bus.runtime.projector(projection, target._replace(place="table"), "elsewhere")
        stream = f"wallet-{unique}"
        async with one_held_and_one_not(bus, replicas, stream):
            assert await versions(here, stream) == [1, 2]
            (arrived,) = envelopes_of(paid_into(stream, 1, TIME), projection.registry())
            assert await versions(elsewhere, stream, arrived) == [1]
            with pytest.raises(StoreUnavailable):
                await versions(elsewhere, stream)
        assert await versions(elsewhere, stream) == [1, 2]


async def versions(projector: Projector, stream: str, *arrived: Envelope) -> list[int]:
    """The versions that it would apply to heal the stream."""
    return [envelope.version for envelope in await projector.from_log(stream, 0, arrived)]


def settings_of(replicas: MongoSet, amqp_url: str, database: str) -> Settings:
    return Settings(amqp_url=amqp_url, mongo_url=replicas.url, mongo_db=database)


async def wallets_of(bus: Bus) -> tuple[Projection[Any], Target]:
    """The projection of wallets, and its collection, which is made."""
    projection = next(one for one in bus.runtime.projections if one.name == "wallets")
    await bus.runtime.collections.prepare(projection.target())
    return projection, projection.target()


@asynccontextmanager
async def one_held_and_one_not(bus: Bus, replicas: MongoSet, stream: str) -> AsyncIterator[None]:
    """Two commits of a stream: the second is the primary's alone until the end."""
    await bus.runtime.event_log.append([paid_into(stream, 1, TIME)])
    with following_stopped(await followers(replicas)):
        await insert_at_primary(replicas, bus.runtime.service, paid_into(stream, 2, TIME))
        yield


def paid_into(stream: str, version: int, time: datetime) -> Commit:
    event = Recorded("Paid", 1, {"amount": version, "mood": ""})
    return Commit(f"{stream}@{version}", stream, "wallet", version, (event,), time, "c")


async def insert_at_primary(replicas: MongoSet, database: str, stored: Commit) -> None:
    async with lent_client(connect(replicas.url)) as client:
        commits = client[database]["commits"]
        unconfirmed = commits.with_options(write_concern=WriteConcern(1))
        await unconfirmed.insert_one(commit_document(stored))


async def followers(replicas: MongoSet) -> list[Member]:
    primary = await asyncio.to_thread(replicas.await_primary)
    return [node for node in replicas.nodes if node is not primary]


@contextmanager
def following_stopped(nodes: Sequence[Member]) -> Iterator[None]:
    """These members copy nothing meanwhile (a failpoint)."""

    def configure(mode: str) -> None:
        for node in nodes:
            with directly(node, seconds=10) as direct:
                direct.admin.command({"configureFailPoint": "stopReplProducer", "mode": mode})

    try:
        configure("alwaysOn")
        yield
    finally:
        configure("off")


def commit(id: str) -> Commit:
    event = Recorded("JobPosted", 1, {})
    return Commit(id, f"job-{id}", "job", 1, (event,), TIME, id)


@pytest.mark.parametrize("seed", [1])
async def test_a_wire_to_the_database_cut_at_any_byte(
    mongo_url: str, amqp_url: str, unique: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with Proxy(mongo_url) as proxy, paying(amqp_url, proxy.url, unique):
        for _ in range(8):
            cuts = proxy.cuts + 1
            proxy.cut_after(chance.randrange(1, 20_000), chance.choice([*Towards]))
            await until(partial(reached, proxy, cuts), "so much to pass", within=20)


def reached(proxy: Proxy, cuts: int) -> bool:
    return proxy.cuts >= cuts
