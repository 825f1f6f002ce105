"""Records what the services of `before` leave in MongoDB and RabbitMQ: `before/stored.json`.

It is run once, with the code of that release, from a folder in which that stands:

    PYTHONPATH=RELEASE:tests/versions/before python tests/versions/record.py tests/versions/before
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import bank
from bson import json_util
from bus.delivery.projections import Projections
from pymongo import MongoClient

from bus import Bus, Command, NotBuilt, Settings, Worker
from handlers import app, applications_app, jobs_app
from read_models.applications_by_job import ListApplications
from read_models.job_board import GetJob
from tests.service import mailing, shop, wallet
from tools.services import MongoNode, RabbitMQNode
from write_models.applications import CloseApplication, SubmitApplication, UnknownJob
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

NOBODY = "amqp://guest:guest@127.0.0.1:1/"
PREFIX = "former_"


class Recorder:
    """Two servers, and settings for services that stand on them."""

    def __init__(self, broker: str, database: str) -> None:
        self._broker, self._database = broker, database
        self.receipts: dict[str, str] = {}

    def settings(self, service: str, broker: str = "") -> Settings:
        return Settings(amqp_url=broker or self._broker, mongo_url=self._database, mongo_db=service)

    async def record(self) -> None:
        await self._job_board()
        await self._two_services()
        await self._wallets()
        await self._mailing()
        await self._shop()
        await self._bank()

    async def _job_board(self) -> None:
        """A worker sees the first part of it; then it has gone, and RabbitMQ with it at last."""
        name = f"{PREFIX}jobboard"
        async with app.build(self.settings(name), name) as bus:
            async with Worker(bus):
                posted = [await bus.execute(_post(n), id=f"post-{n}") for n in (1, 2, 3)]
                await bus.execute(_revise(1, 1), after=posted[0])
                for number, job in (("1", "j1"), ("2", "j1"), ("3", "j2")):
                    await bus.execute(_apply(number, job), after=posted[1])
                await bus.execute(ArchiveJob(job_id="j2"))
                await _until(lambda: _all_closed(bus, "j2"))
                await _until(lambda: _applied(bus, "j1", 2))
                self.receipts["post-1"] = posted[0].token
                await Projections(bus).rebuild("applicant_history")
                await _until(lambda: _rebuilt(bus, "applicant_history"))
            await bus.execute(_post(4))
            await bus.execute(_revise(3, 1))
            await bus.execute(ArchiveJob(job_id="j1"))
            await bus.send(_post(5), id="post-5")
        async with app.build(self.settings(name, NOBODY), name) as bus:
            await bus.execute(_post(6))
            await bus.execute(CloseApplication(application_id="a1", reason="withdrawn"))

    async def _two_services(self) -> None:
        """Each follows the other; the last of what they did is on its way."""
        jobs_name, applications_name = f"{PREFIX}jobs", f"{PREFIX}applications"
        os.environ |= {"JOBS_SERVICE": jobs_name, "APPLICATIONS_SERVICE": applications_name}
        jobs = jobs_app.build(self.settings(jobs_name))
        applications = applications_app.build(self.settings(applications_name))
        async with jobs, applications:
            async with Worker(jobs), Worker(applications):
                await jobs.execute(_post(1))
                await jobs.execute(_post(2))

                async def applies() -> bool:
                    with suppress(UnknownJob):
                        await applications.execute(_apply("1", "j1"), id="apply-1")
                        return True
                    return False

                await _until(applies)
                await _until(lambda: _applied(jobs, "j1", 1))
            await jobs.execute(_revise(2, 1))
            await jobs.execute(ArchiveJob(job_id="j1"))

    async def _wallets(self) -> None:
        """A dead letter, a stream that is parked, a collection that is to be built anew."""
        name = f"{PREFIX}wallets"
        async with wallet.build(self.settings(name), service=name) as bus:
            async with Worker(bus):
                for number, mood in enumerate(["", "grateful", "rejects", "unprojectable"]):
                    await bus.execute(wallet.Pay(wallet_id=f"w{number}", amount=10, mood=mood))
                await _until(lambda: _thanked(bus, "w1"))
                await _until(lambda: _has(bus, "dead_letters", self._database, name))
                await _until(lambda: _has(bus, "parked", self._database, name))
            await Projections(bus).rebuild("wallets")
            await bus.execute(wallet.Pay(wallet_id="w0", amount=1))
            await bus.execute(wallet.Pay(wallet_id="w4", amount=5, mood="grateful"))

    async def _mailing(self) -> None:
        """What a handler wrote by its session, and what it is to write."""
        name = f"{PREFIX}mailing"
        async with mailing.build(self.settings(name), service=name) as bus:
            async with Worker(bus):
                await bus.execute(wallet.Pay(wallet_id="w1", amount=10))
                await _until(lambda: mailing.all_of(bus, "mail_queue"))
            await bus.execute(wallet.Pay(wallet_id="w1", amount=1))

    async def _shop(self) -> None:
        """Snapshots, of events that are called otherwise by the release after."""
        name = f"{PREFIX}shop"
        async with shop.old(self.settings(name), name, shop.Mails()) as bus:
            async with Worker(bus):
                for euros in (1, 2, 3, 4, 5):
                    receipt = await bus.execute(shop.Place(order_id="o1", euros=euros))
                await bus.query(shop.GetOrder(order_id="o1"), after=receipt)
                await bus.query(shop.GetSum(), after=receipt)
            await bus.execute(shop.Place(order_id="o1", euros=6))

    async def _bank(self) -> None:
        """README's service, under a name of its own."""
        name = f"{PREFIX}bank"
        routers, projections = [bank.accounts], [bank.balances]
        settings = self.settings(name)
        async with Bus(name, routers=routers, projections=projections, settings=settings) as bus:
            async with Worker(bus):
                command = bank.OpenAccount(account_id="a1", owner="Ada")
                receipt = await bus.execute(command, id="open-a1")
                await bus.query(bank.GetBalance(account_id="a1"), after=receipt)
                self.receipts["open-a1"] = receipt.token
            await bus.execute(bank.OpenAccount(account_id="a2", owner="Eve"))


def _post(number: int) -> PostJob:
    return PostJob(job_id=f"j{number}", title=f"Job {number}", description="Night shifts.")


def _revise(number: int, version: int) -> ReviseJob:
    return ReviseJob(
        job_id=f"j{number}", version=version, title=f"New {number}", description="Day shifts."
    )


def _apply(number: str, job_id: str) -> Command:
    return SubmitApplication(
        application_id=f"a{number}", job_id=job_id, applicant="ada", letter="Take me."
    )


async def _until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(NotBuilt):
                if await condition():
                    return
            await asyncio.sleep(0.02)


async def _all_closed(bus: Bus, job_id: str) -> bool:
    page = await bus.query(ListApplications(job_id=job_id))
    return bool(page.items) and all(one.status == "closed" for one in page.items)


async def _applied(bus: Bus, job_id: str, count: int) -> bool:
    job = await bus.query(GetJob(job_id=job_id))
    return job is not None and job.applications == count


async def _thanked(bus: Bus, wallet_id: str) -> bool:
    view = await bus.query(wallet.GetWallet(wallet_id=wallet_id))
    return view is not None and view.thanks == 1


async def _has(bus: Bus, collection: str, url: str, database: str) -> bool:
    with MongoClient[dict[str, Any]](url) as client:
        return any(
            client[database][one].count_documents({})
            for one in client[database].list_collection_names()
            if collection in one
        )


async def _rebuilt(bus: Bus, projection: str) -> bool:
    """Readers read another collection than the first."""
    status = await Projections(bus).status(projection)
    return any(one.state == "read" and one.collection != projection for one in status)


def databases(url: str) -> dict[str, Any]:
    """All documents of all services, with their collections' indexes, as extended JSON."""
    with MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        names = [one for one in client.list_database_names() if one.startswith(PREFIX)]
        return {name: collections(client[name]) for name in sorted(names)}


def collections(database: Any) -> dict[str, Any]:
    return {
        info["name"]: {
            "options": info["options"],
            "indexes": [
                {key: value for key, value in one.items() if key not in ("v", "ns")}
                for one in database[info["name"]].list_indexes()
                if one["name"] != "_id_"
            ],
            "documents": list(database[info["name"]].find({}).sort("_id", 1)),
        }
        for info in sorted(database.list_collections(), key=lambda one: str(one["name"]))
    }


async def broker(node: RabbitMQNode, folder: Path) -> dict[str, Any]:
    """Exchanges, queues and bindings as RabbitMQ tells them, and the messages that wait."""
    file = folder / "definitions.json"
    node.control("export_definitions", str(file))
    told = json.loads(file.read_text())
    kept = {
        kind: sorted(
            (
                {key: value for key, value in one.items() if key != "vhost"}
                for one in told[kind]
                if str(one.get("name", one.get("source"))).startswith(PREFIX)
            ),
            key=lambda one: json.dumps(one, sort_keys=True),
        )
        for kind in ("exchanges", "queues", "bindings")
    }
    messages: dict[tuple[str, str, str], Any] = {}
    async with await aio_pika.connect(node.url) as connection, connection.channel() as channel:
        for one in kept["queues"]:
            queue = await channel.get_queue(one["name"])
            with suppress(TimeoutError):  # all that waits has come
                async with queue.iterator(no_ack=True, timeout=0.3) as waiting:
                    async for found in waiting:
                        key = str(found.exchange), str(found.routing_key), str(found.message_id)
                        messages.setdefault(key, message(found))
    return {**kept, "messages": list(messages.values())}


def message(found: Any) -> dict[str, Any]:
    """How it was published; each of the queues had it by the same exchange."""
    info = {key: value for key, value in found.info().items() if value is not None}
    told = (
        "content_type",
        "delivery_mode",
        "message_id",
        "type",
        "app_id",
        "correlation_id",
        "timestamp",
    )
    return {
        "exchange": found.exchange,
        "topic": found.routing_key,
        "body": found.body.decode(),
        "headers": dict(found.headers),
        "properties": {name: info[name] for name in told if name in info},
    }


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        rabbitmq, mongodb = (
            RabbitMQNode(Path(made) / "rabbitmq"),
            MongoNode(Path(made) / "mongodb"),
        )
        try:
            rabbitmq.start()
            mongodb.start()
            recorder = Recorder(rabbitmq.url, mongodb.url)
            await recorder.record()
            stored = {
                "recorded": datetime.now(UTC),
                "receipts": recorder.receipts,
                "databases": databases(mongodb.url),
                "broker": await broker(rabbitmq, Path(made)),
            }
        finally:
            rabbitmq.close(remove=True)
            mongodb.close(remove=True)
    text = json_util.dumps(stored, json_options=json_util.RELAXED_JSON_OPTIONS, indent=1)
    (folder / "stored.json").write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
