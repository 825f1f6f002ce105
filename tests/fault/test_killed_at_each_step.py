"""kill -9 of a process at each named step, on the real services: the next one makes it good."""

import asyncio
import os

from bus import Settings, Worker
from bus.testing import STEPS, Step
from tests import killing
from tests.databases import drop
from tests.service.wallet import Diary, GetWallet, Pay, WalletView, build, ledgers
from tests.waiting import until


async def killed(step: Step, service: str, settings: Settings) -> None:
    """Runs a process until it kills itself, before or after a step."""
    when = "before" if step in ("publish", "project", "handle") else "after"
    environment = {
        **os.environ,
        "BUS_AMQP_URL": settings.amqp_url,
        "BUS_MONGO_URL": settings.mongo_url,
        "BUS_MONGO_DB": settings.mongo_db,
    }
    await killing.killed("killed_at", step, when, service, environment=environment)


async def made_good(step: Step, service: str, settings: Settings) -> None:
    """What a process did not finish, the next one does: once, and in order."""
    await killed(step, service, settings)
    async with build(settings, Diary(), service, also=[ledgers()]) as bus, Worker(bus):
        for amount in (1, 2, 3):  # whoever asked for it asks again
            await bus.execute(Pay(wallet_id="a", amount=amount, mood="grateful"), id=f"k{amount}")

        async def whole() -> bool:
            found = await bus.query(GetWallet(wallet_id="a"))
            return found == WalletView(id="a", total=6, thanks=3)

        await until(whole, f"{step}: three payments and three thanks", within=40)
        ledger = bus.runtime.collections.documents(ledgers().target())

        async def logged() -> bool:
            commits = await bus.runtime.event_log.read("wallet-a")
            events = [event.data.get("amount", 0) for one in commits for event in one.events]
            document = await ledger.find_one({"_id": "a"})
            return len(events) == 6 and document is not None and document["entries"] == events

        await until(logged, f"{step}: a ledger of what is in the log", within=40)


async def test_a_process_killed_at_any_step_loses_and_repeats_nothing(
    real_settings: Settings, mongo_url: str, unique: str
) -> None:
    services = {step: f"{unique}_{step}" for step in STEPS}
    try:
        async with asyncio.TaskGroup() as group:
            for step, name in services.items():
                own = real_settings.model_copy(update={"mongo_db": name})
                group.create_task(made_good(step, name, own))
    finally:
        await drop(mongo_url, *services.values())
