"""A URL that asks for less than durable writes changes nothing: the concerns are set in code."""

from collections import Counter
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from bus import Settings, Worker
from tests.service.wallet import GetWallet, Pay, build

WEAK = "&w=0&journal=false&readConcernLevel=local&readPreference=secondaryPreferred"


class Writes(CommandListener):
    """Which concern came with each write; within a transaction, with its commit."""

    def __init__(self) -> None:
        self.durable: Counter[str] = Counter()
        self.weak: list[Any] = []

    def started(self, event: Any) -> None:
        command, name = event.command, event.command_name
        writes = name in ("insert", "update", "delete") and "autocommit" not in command
        if not writes and name != "commitTransaction":
            return
        if command.get("writeConcern") == {"w": "majority", "j": True}:
            self.durable[name] += 1
        else:
            self.weak.append(command)

    def succeeded(self, event: Any) -> None:
        """Of no interest."""

    def failed(self, event: Any) -> None:
        """Of no interest."""


async def test_what_a_url_says_against_durability_is_not_heard(
    real_settings: Settings, unique: str
) -> None:
    writes = Writes()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        real_settings.mongo_url + WEAK, event_listeners=[writes]
    )
    async with client, build(real_settings, service=unique, client=client) as bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
        assert found is not None
        assert found.total == 3
    assert writes.weak == []
    assert writes.durable.keys() >= {"insert", "update", "commitTransaction"}
