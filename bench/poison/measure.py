"""What poison costs the good: 10,000 good commands alone, and with poison among them, alternately.

The poison: frames that nobody can read, streams that a projection cannot apply, and events whose
handler always raises. The handlers are then mended, and one retry of all must repair everything.
"""

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from bench.poison.service import Deposit, Moods, build
from bench.services import Servers
from bus import Bus, DeadLetters, Settings, Worker
from bus.common import clock
from bus.observe import log
from bus.transports.base import Frame
from bus.transports.topology import event_topic

CONCURRENT = 64
FRAMES, STREAMS, HANDLED = 20, 10, 20
WITHIN = 120.0


def measure(servers: Servers, peers: Path, *, quick: bool, rounds: int | None) -> dict[str, Any]:
    """Medians of the rates without and with poison, their ratio, and what was repaired."""
    log.configure(level="CRITICAL")
    good, usual = (2000, 3) if quick else (10_000, 5)
    return asyncio.run(_measure(servers.amqp_url, servers.mongo_url, good, rounds or usual))


async def _measure(amqp_url: str, mongo_url: str, good: int, rounds: int) -> dict[str, Any]:
    rates: dict[bool, list[float]] = {False: [], True: []}
    groups: list[str] = []
    for number in range(rounds):
        for poisoned in (False, True) if number % 2 == 0 else (True, False):
            rate, found = await _run(amqp_url, mongo_url, good, poisoned=poisoned)
            rates[poisoned].append(rate)
            groups = found or groups
            shown = "with poison" if poisoned else "alone"
            print(f"round {number + 1}/{rounds}, {shown}: {rate:,.0f}/s", file=sys.stderr)
    alone, beside = statistics.median(rates[False]), statistics.median(rates[True])
    return {
        "benchmark": "poison",
        "good": good,
        "poison": {"frames": FRAMES, "streams": STREAMS, "handled": HANDLED},
        "per_second": {"alone": round(alone, 1), "with_poison": round(beside, 1)},
        "ratio": round(beside / alone, 3),
        "ratios_by_round": [
            round(b / a, 2) for a, b in zip(rates[False], rates[True], strict=True)
        ],
        "groups": groups,
        "repaired_by_one_retry": True,
    }


async def _run(
    amqp_url: str, mongo_url: str, good: int, *, poisoned: bool
) -> tuple[float, list[str]]:
    """The rate of the good until the last is visible and handled; and the groups of the bad."""
    service = f"bench_{uuid.uuid4().hex[:8]}"
    settings, moods = Settings(amqp_url=amqp_url, mongo_url=mongo_url), Moods()
    client: MongoClient[dict[str, Any]] = MongoClient(mongo_url)
    views = client[service]["balances"]
    try:
        async with build(settings, service, moods) as bus, Worker(bus):

            async def all_good() -> bool:
                done = sum(1 for one in moods.handled if one.startswith("good"))
                if done < good:
                    return False
                wanted = {"_id": {"$regex": "^good"}, "balance": 1}
                return await asyncio.to_thread(views.count_documents, wanted) == good

            start = time.monotonic()
            await _execute(bus, good, poisoned=poisoned)
            await _until(all_good, "good ones are neither visible nor handled")
            rate = good / (time.monotonic() - start)
            return rate, await _repair(bus, moods) if poisoned else []
    finally:
        client.drop_database(service)
        client.close()


async def _execute(bus: Bus, good: int, *, poisoned: bool) -> None:
    """The good ones, the bad ones spread among them."""
    names = [f"good-{number}" for number in range(good)]
    if poisoned:
        bad = [f"poison-stream-{number}" for number in range(STREAMS)]
        bad += [f"poison-handler-{number}" for number in range(HANDLED)]
        for number, name in enumerate(bad):
            names.insert(number * good // len(bad), name)
    remaining = iter(names)

    async def client() -> None:
        for name in remaining:
            await bus.execute(Deposit(account_id=name, amount=1))

    clients = [asyncio.create_task(client()) for _ in range(CONCURRENT)]
    for number in range(FRAMES if poisoned else 0):
        await bus.runtime.transport.publish([_unreadable(number)])
        await asyncio.sleep(0.05)
    await asyncio.gather(*clients)


def _unreadable(number: int) -> Frame:
    stream = f"account-torn-{number}"
    headers: dict[str, str | int] = {"stream": stream, "version": 1, "schema": 1}
    topic = event_topic("account", "Deposited", stream)
    return Frame(
        address="events",
        topic=topic,
        id=clock.new_id(),
        name="Deposited",
        body=b'{"amo',
        time=clock.now(),
        correlation_id="-",
        headers=headers,
    )


async def _repair(bus: Bus, moods: Moods) -> list[str]:
    """Waits for the bad ones, mends the handlers, retries all once; what cannot be read stays."""
    letters = DeadLetters(bus)

    async def all_there() -> bool:
        return sum(one.count for one in await letters.groups()) >= 2 * FRAMES + STREAMS + HANDLED

    await _until(all_there, "dead letters are missing")
    groups = [f"{one.count} x {one.message}: {one.error}" for one in await letters.groups()]
    moods.broken = False
    await letters.retry(all=True)

    async def repaired() -> bool:
        left = await letters.groups()
        return all(one.error == "InvalidMessage" for one in left)

    await _until(repaired, "what was mended is not repaired")
    return groups


async def _until(condition: Callable[[], Awaitable[bool]], missing: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not await condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"after {WITHIN:.0f} s: {missing}")
        await asyncio.sleep(0.05)


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    rates = result["per_second"]
    lines = [
        f"{result['good']:,} good commands: {rates['alone']:,.0f}/s alone, "
        f"{rates['with_poison']:,.0f}/s with poison among them: ratio {result['ratio']}",
        *(f"  {group}" for group in result["groups"]),
        "  one retry repaired what was mended; what cannot be read stays in its group",
    ]
    return "\n".join(lines)
