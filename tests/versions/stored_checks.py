"""What the services of `before` left goes on with this version: run by `test_former_data.py`, in a
process where `handlers`, `tests` and so on are theirs."""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from bson import json_util
from pymongo import MongoClient

from bus import Bus, DeadLetters, Events, NotBuilt, NotCaughtUp, Projections, Settings, Worker
from handlers import app, applications_app, jobs_app
from read_models import job_replicas
from read_models.applicant_history import ApplicantHistory
from read_models.applications_by_job import ListApplications
from read_models.job_board import GetJob, ListJobs
from tests.service import mailing, shop, wallet
from tests.waiting import until
from write_models.applications import JobIsClosed, SubmitApplication
from write_models.jobs import PostJob, ReviseJob

STORED = Path(__file__).parent / "before" / "stored.json"
PREFIX = "former_"
OPTIONS = json_util.RELAXED_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=UTC)


class Stored:
    """Loads what a service left, under a name that no other test has."""

    def __init__(self) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:10]}_"
        text = STORED.read_text().replace(PREFIX, self.prefix)
        self._data = json_util.loads(text, json_options=OPTIONS)
        self.receipts: dict[str, str] = self._data["receipts"]
        age = datetime.now(UTC) - self._data["recorded"]
        self._age = timedelta(seconds=age // timedelta(seconds=1))
        """By how much all times are moved, so that leases and the like are as old as they were."""
        self._loaded: list[str] = []

    async def load(self, *services: str) -> str:
        """Brings back what they stored, and what waited for them; returns the first one's name."""
        names = [self.prefix + one for one in services]
        self._loaded += names
        with MongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:
            for name in names:
                for collection, content in self._data["databases"][name].items():
                    _make(client[name], collection, _moved(content, self._age))
        async with (
            await aio_pika.connect(os.environ["BUS_AMQP_URL"]) as connection,
            connection.channel(publisher_confirms=True) as channel,
        ):
            await self._declare(channel, names)
            await self._publish(channel, names)
        return names[0]

    def settings(self, name: str) -> Settings:
        return Settings(mongo_db=name)

    def drop(self) -> None:
        with MongoClient[dict[str, Any]](os.environ["BUS_MONGO_URL"]) as client:
            for name in self._loaded:
                client.drop_database(name)

    async def _declare(self, channel: aio_pika.abc.AbstractChannel, names: list[str]) -> None:
        for one in self._of("exchanges", names):
            exchange = one["name"], one["type"]
            await channel.declare_exchange(*exchange, durable=True, arguments=one["arguments"])
        for one in self._of("queues", names):
            queue = await channel.declare_queue(
                one["name"], durable=True, arguments=one["arguments"]
            )
            for binding in self._data["broker"]["bindings"]:
                if binding["destination"] == queue.name:
                    await queue.bind(binding["source"], binding["routing_key"])

    def _of(self, kind: str, names: list[str]) -> list[dict[str, Any]]:
        return [one for one in self._data["broker"][kind] if one["name"].partition(".")[0] in names]

    async def _publish(self, channel: aio_pika.abc.AbstractChannel, names: list[str]) -> None:
        for told in self._data["broker"]["messages"]:
            if told["properties"]["app_id"] in names:
                headers, properties = told["headers"], _moved(told["properties"], self._age)
                headers["timestamp_in_ms"] += int(self._age / timedelta(milliseconds=1))
                message = aio_pika.Message(told["body"].encode(), headers=headers, **properties)
                exchange = await channel.get_exchange(told["exchange"], ensure=False)
                await exchange.publish(message, told["topic"])


def _make(database: Any, name: str, content: dict[str, Any]) -> None:
    collection = database.create_collection(name, **content["options"])
    if content["indexes"]:
        database.command("createIndexes", name, indexes=content["indexes"])
    if content["documents"]:
        collection.insert_many(content["documents"])


def _moved(value: Any, by: timedelta) -> Any:
    if isinstance(value, datetime):
        return value + by
    if isinstance(value, dict):
        return {key: _moved(one, by) for key, one in value.items()}
    return [_moved(one, by) for one in value] if isinstance(value, list) else value


@pytest.fixture
def stored() -> Iterator[Stored]:
    stored = Stored()
    yield stored
    stored.drop()


async def seen(condition: Callable[[], Awaitable[Any]], missing: str) -> None:
    """Waits until it is true; what is being built may be so for a while."""

    async def holds() -> bool:
        with suppress(NotBuilt, NotCaughtUp):
            return bool(await condition())
        return False

    await until(holds, missing, within=30)


async def well(bus: Bus) -> None:
    """The worker is ready, and every document is a fold of the log."""

    async def has_no_problem() -> bool:
        health = await bus.health()
        return health.ready and not health.problems

    await seen(has_no_problem, "its health tells no problem")
    projections = Projections(bus)
    for name in {one.projection for one in await projections.status()}:
        audit = await projections.audit(name)
        assert not audit.differences, f"{name}: {audit.differences}"


@pytest.fixture
async def board(stored: Stored) -> AsyncIterator[Bus]:
    name = await stored.load("jobboard")
    async with app.build(stored.settings(name), name) as bus:
        yield bus


def posting(number: int) -> PostJob:
    return PostJob(job_id=f"j{number}", title=f"Job {number}", description="Night shifts.")


async def test_what_was_projected_is_read_before_any_worker_runs(board: Bus) -> None:
    job = await board.query(GetJob(job_id="j1"))
    assert job is not None
    assert (job.title, job.status, job.version, job.applications) == ("New 1", "open", 2, 2)
    assert (await board.query(ListJobs())).total == 2
    history = await board.query(ApplicantHistory(applicant="ada"))
    assert sorted(one.status for one in history.items) == ["closed", "open", "open"]


async def test_a_repeat_of_a_command_gets_the_receipt_of_then(board: Bus, stored: Stored) -> None:
    again = await board.execute(posting(1), id="post-1")
    assert again.token == stored.receipts["post-1"]
    assert again.result == "j1"


async def test_the_job_board_goes_on(board: Bus) -> None:
    """What waited in queues, what was not published yet, and what comes now."""
    async with Worker(board):

        async def shows_all() -> bool:
            jobs = {one.id: one.title for one in (await board.query(ListJobs())).items}
            return jobs == {"j3": "New 3", "j4": "Job 4", "j5": "Job 5", "j6": "Job 6"}

        async def are_closed() -> bool:
            page = await board.query(ApplicantHistory(applicant="ada"))
            return {one.id: one.reason for one in page.items} == {
                "a1": "withdrawn",
                "a2": "the job was archived",
                "a3": "the job was archived",
            }

        await seen(shows_all, "the jobs that were posted and archived meanwhile")
        await seen(are_closed, "the applications for the archived job are closed")
        revision = ReviseJob(job_id="j3", version=2, title="Newer 3", description="-")
        receipt = await board.execute(revision)
        assert receipt.result == 3
        job = await board.query(GetJob(job_id="j3"), after=receipt)
        assert job is not None
        assert job.title == "Newer 3"
        shown = [one async for one in Events(board).show("job-j3")]
        assert [(one.name, one.version) for one in shown] == [
            ("JobPosted", 1),
            ("JobRevised", 2),
            ("JobRevised", 3),
        ]
        await well(board)


async def test_a_projection_is_built_anew_and_readers_go_back(board: Bus) -> None:
    async with Worker(board):
        projections = Projections(board)
        made = await projections.rebuild("job_board")

        async def is_read() -> bool:
            status = await projections.status("job_board")
            return {one.collection for one in status if one.state == "read"} == {made}

        await seen(is_read, f"{made} is read")
        assert await projections.rollback("job_board") == "job_board"
        await seen(lambda: board.query(GetJob(job_id="j6")), "the former collection follows too")
        await well(board)


async def test_two_services_go_on_following_each_other(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {one: stored.prefix + one for one in ("jobs", "applications")}
    for one, name in names.items():
        monkeypatch.setenv(f"{one.upper()}_SERVICE", name)
    await stored.load("jobs", "applications")
    jobs = jobs_app.build(stored.settings(names["jobs"]))
    applications = applications_app.build(stored.settings(names["applications"]))
    async with jobs, applications, Worker(jobs), Worker(applications):

        async def is_closed() -> bool:
            page = await applications.query(ListApplications(job_id="j1"))
            return [one.status for one in page.items] == ["closed"]

        await seen(is_closed, "the application for a job that was archived is closed")
        replicas = jobs_replicas(applications)
        await seen(replicas, "the replica of a job that was revised")
        late = SubmitApplication(application_id="a2", job_id="j1", applicant="eve", letter="-")
        with pytest.raises(JobIsClosed):
            await applications.execute(late)
        letter = SubmitApplication(application_id="a3", job_id="j2", applicant="eve", letter="-")
        await applications.execute(letter)

        async def is_counted() -> bool:
            job = await jobs.query(GetJob(job_id="j2"))
            return job is not None and job.applications == 1

        await seen(is_counted, "the jobs count it")
        await well(jobs)
        await well(applications)


def jobs_replicas(bus: Bus) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        target = await bus.runtime.catalogue.target(job_replicas.projection)
        document = await bus.runtime.collections.documents(target).find_one({"_id": "j2"})
        return document is not None and document["title"] == "New 2"

    return holds


async def test_letters_parked_streams_and_collections_in_the_making_go_on(
    stored: Stored,
) -> None:
    name = await stored.load("wallets")
    diary = wallet.Diary()
    diary.mended = True
    async with wallet.build(stored.settings(name), diary, name) as bus:
        letters = DeadLetters(bus)
        (letter,) = [one for one in await letters.list() if one.handler.endswith("thanking")]
        assert (letter.message, letter.error, letter.reason) == ("Paid", "Reject", "never")
        async with Worker(bus):

            async def total(number: int, amount: int, thanks: int = 0) -> bool:
                view = await bus.query(wallet.GetWallet(wallet_id=f"w{number}"))
                return view is not None and (view.total, view.thanks) == (amount, thanks)

            await seen(lambda: total(0, 11), "what was paid meanwhile")
            await seen(lambda: total(1, 10, 1), "what was paid then")
            await seen(lambda: total(3, 10), "what was parked")
            await seen(lambda: total(4, 5, 1), "thanks for what was paid meanwhile")

            async def is_read() -> bool:
                status = await Projections(bus).status("wallets")
                return [one.state for one in status if one.collection == "wallets__v1r2"] == [
                    "read"
                ]

            await seen(is_read, "the collection that was begun is read")
            await letters.edit(letter.id, {"amount": 10, "mood": ""})
            outcome = await letters.retry(letter.id)
            assert list(outcome.done) == [letter.id]

            async def is_handled() -> bool:
                return ("wallet-w2", 1) in diary.seen and not await letters.list()

            await seen(is_handled, "the letter is handled, and gone")
            await well(bus)


async def test_what_a_session_wrote_is_gone_on_with(stored: Stored) -> None:
    name = await stored.load("mailing")
    async with mailing.build(stored.settings(name), service=name) as bus, Worker(bus):

        async def is_paid() -> bool:
            return await mailing.paid_in_total(bus) == 11

        await seen(is_paid, "the handler adds what was paid meanwhile")
        assert [one["copies"] for one in await mailing.all_of(bus, "mail_queue")] == [1, 1]

        async def booked() -> bool:
            return [one.name async for one in Events(bus).show("ledger-w1")] == ["Booked"] * 2

        async def thanked() -> bool:
            shown = [one.name async for one in Events(bus).show("wallet-w1")]
            return sorted(shown) == ["Paid", "Paid", "Thanked", "Thanked"]

        await seen(booked, "the ledger goes on")
        await seen(thanked, "commands that waited are carried out")
        await well(bus)


async def test_snapshots_and_events_under_former_names_are_read(stored: Stored) -> None:
    name = await stored.load("shop")
    async with shop.new(stored.settings(name), name, shop.Mails()) as bus, Worker(bus):
        assert (await bus.execute(shop.GetTotal(order_id="o1"))).result == 2100
        receipt = await bus.execute(shop.Place(order_id="o1", euros=7))
        assert receipt.versions == {"order-o1": 7}
        view = await bus.query(shop.GetOrder(order_id="o1"), after=receipt)
        assert view is not None
        assert view.total == 15 + 600 + 700, "what was projected stays; what comes is in cents"


async def test_snapshots_are_read_by_the_classes_that_made_them(stored: Stored) -> None:
    name = await stored.load("shop")
    async with shop.old(stored.settings(name), name, shop.Mails()) as bus:
        receipt = await bus.execute(shop.Place(order_id="o1", euros=7))
        assert receipt.versions == {"order-o1": 7}


async def test_readmes_service_goes_on(stored: Stored) -> None:
    bank = import_module("bank")
    name = await stored.load("bank")
    bus = Bus(
        name,
        routers=[bank.accounts],
        projections=[bank.balances],
        settings=stored.settings(name),
    )
    async with bus, Worker(bus):
        command = bank.OpenAccount(account_id="a1", owner="Ada")
        receipt = await bus.execute(command, id="open-a1")
        assert receipt.token == stored.receipts["open-a1"]
        query = bank.GetBalance(account_id="a1")
        assert str(await bus.query(query, after=receipt)) == "owner='Ada' balance=0"
        await seen(lambda: bus.query(bank.GetBalance(account_id="a2")), "what was opened meanwhile")
        await well(bus)
