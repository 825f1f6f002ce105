"""A broker that was spoilt: the plan names it, and what its remedy does makes the check pass."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractIncomingMessage
from typer.testing import CliRunner

from bus import Bus, ConfigurationError, Settings, TopologyMismatch
from bus.cli.main import app
from bus.operate.topology.apply import Applying
from bus.operate.topology.plan import Plan, Planning
from bus.operate.topology.prune import Pruning
from bus.transports.rabbitmq.planning.change import Change
from tests.fault.conftest import channel_of
from tests.fault.spoiling import (
    Spoil,
    control,
    declared_classic,
    without_binding,
    without_exchange,
    without_queue,
)
from tests.service.wallet import Diary, build
from tools.services import RabbitMQNode


@pytest.fixture
def broker(managed: RabbitMQNode) -> RabbitMQNode:
    return managed


@pytest.fixture
def settings(managed_settings: Settings) -> Settings:
    return managed_settings


@pytest.fixture
async def bus(settings: Settings, unique: str) -> AsyncIterator[Bus]:
    """A service that was declared, and which is only looked at."""
    async with build(settings, Diary(), unique):
        pass
    async with build(settings, Diary(), unique).looking() as looking:
        yield looking


async def planned(bus: Bus, **options: Any) -> Plan:
    return await Planning(bus).plan(**options)


async def exported(broker: RabbitMQNode, folder: Path) -> Path:
    file = folder / "definitions.json"
    await control(broker, "export_definitions", str(file))
    return file


def without_api(settings: Settings, service: str) -> AbstractAsyncContextManager[Bus]:
    alone = settings.model_copy(update={"management_url": ""})
    return build(alone, Diary(), service).looking()


async def by_amqp(settings: Settings, service: str) -> Plan:
    async with without_api(settings, service) as bus:
        return await planned(bus)


def lines(plan: Plan) -> list[tuple[str, str, str]]:
    return [change[:3] for change in plan.changes if change.sign != "?"]


def one(plan: Plan, sign: str) -> Change:
    (change,) = [change for change in plan.changes if change.sign == sign]
    assert change.remedy
    return change


async def test_what_was_declared_differs_in_nothing_by_whichever_source(
    broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str, tmp_path: Path
) -> None:
    for plan in (
        await planned(bus),
        await planned(bus, definitions=await exported(broker, tmp_path)),
        await by_amqp(settings, unique),
    ):
        assert lines(plan) == [], plan.source
        assert not plan.differs()


async def test_amqp_alone_says_what_it_cannot_see(
    settings: Settings, bus: Bus, unique: str
) -> None:
    plan = await by_amqp(settings, unique)
    assert [change.name for change in plan.changes] == [
        "bindings",
        "policies",
        "queues and exchanges that nobody declares",
    ]
    assert plan.differs(strictly=True)
    async with without_api(settings, unique) as looking:
        with pytest.raises(ConfigurationError, match="set BUS_MANAGEMENT_URL"):
            await Pruning(looking).prunable()


# -- missing, made by apply


MISSING: list[tuple[Spoil, str, str]] = [
    (without_queue, "queue", "thanking"),
    (without_exchange, "exchange", "delay.30s"),
    (without_binding, "binding", "thanking"),
]


@pytest.mark.parametrize(("spoil", "kind", "name"), MISSING)
async def test_what_is_missing_is_made_by_apply(
    spoil: Spoil, kind: str, name: str, broker: RabbitMQNode, bus: Bus, unique: str, tmp_path: Path
) -> None:
    async with channel_of(broker) as channel:
        await spoil(channel, unique)
    expected = ("+", kind, f"{unique}.{name}")
    by_file = await planned(bus, definitions=await exported(broker, tmp_path))
    # A queue of that exchange is unbound with it, which is no line of its own.
    assert lines(await planned(bus)) == lines(by_file) == [expected]
    assert (await Applying(bus).apply()).made == 1
    assert not (await planned(bus)).differs()


# -- not as declared


async def test_an_exchange_of_another_type_is_named_and_not_touched(
    broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    name = f"{unique}.events"
    async with channel_of(broker) as channel:
        await channel.exchange_delete(name)
        await channel.declare_exchange(name, ExchangeType.FANOUT, durable=True)
        assert one(await planned(bus), "~").why == "type is fanout, not topic"
        assert "inequivalent arg 'type'" in one(await by_amqp(settings, unique), "~").why
        with pytest.raises(TopologyMismatch, match="stop what publishes to it, delete it"):
            await Applying(bus).apply()
        await channel.exchange_delete(name)
    await Applying(bus).apply()
    assert not (await planned(bus)).differs()


async def test_a_classic_queue_and_one_with_other_arguments_are_seen_by_each_source(
    broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str, tmp_path: Path
) -> None:
    async with channel_of(broker) as channel:
        await declared_classic(channel, f"{unique}.thanking")
        await declared_classic(channel, f"{unique}.commands", **{"x-queue-type": "quorum"})
    by_api = await planned(bus)
    by_file = await planned(bus, definitions=await exported(broker, tmp_path))
    by_asking = await by_amqp(settings, unique)
    for plan in (by_api, by_file, by_asking):
        changed = {change.name: change for change in plan.changes if change.sign == "~"}
        assert set(changed) == {f"{unique}.thanking", f"{unique}.commands"}, plan.source
        # RabbitMQ itself names the first difference only.
        word = "inequivalent arg" if plan is by_asking else "x-queue-type is classic, not quorum"
        assert word in changed[f"{unique}.thanking"].why
        assert "dead-letter" in changed[f"{unique}.commands"].why


# -- declared by nobody


async def ignored(message: AbstractIncomingMessage) -> None:
    """Consumes, and settles nothing."""


async def test_what_nobody_declares_is_pruned_but_not_what_is_used(
    broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    async with channel_of(broker) as channel:
        for name in ("empty", "full", "used"):
            await channel.declare_queue(f"{unique}.{name}", durable=True)
        await channel.declare_exchange(f"{unique}.old", ExchangeType.TOPIC, durable=True)
        thanking = await channel.get_queue(f"{unique}.thanking", ensure=False)
        await thanking.bind(f"{unique}.events", "*.Closed.*")
        full = await channel.get_queue(f"{unique}.full", ensure=False)
        await full.bind(f"{unique}.events", "*.Paid.*")
        await channel.default_exchange.publish(Message(b"full"), f"{unique}.full")
        used = await channel.get_queue(f"{unique}.used", ensure=False)
        tag = await used.consume(ignored)
        pruning = Pruning(bus)
        changes = await pruning.prunable()
        assert [change[1:3] for change in changes] == [
            ("binding", f"{unique}.thanking"),
            ("queue", f"{unique}.empty"),
            ("queue", f"{unique}.full"),
            ("queue", f"{unique}.used"),
            ("exchange", f"{unique}.old"),
        ]
        kept = {stays.change.name: stays.why for stays in (await pruning.prune(changes)).kept}
        assert kept == {
            f"{unique}.full": "it holds 1 messages: give --with-messages to lose them",
            f"{unique}.used": "it is consumed (1): stop what consumes it",
        }
        await used.cancel(tag)
        left = await pruning.prunable()
        assert not (await pruning.prune(left, with_messages=True)).kept
    assert not (await planned(bus)).differs()


async def test_prune_asks_for_the_name_of_the_service(
    broker: RabbitMQNode, settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("amqp_url", "management_url", "mongo_url"):
        monkeypatch.setenv(f"BUS_{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("BUS_MONGO_DB", unique)
    assert (await said("apply")).exit_code == 0
    async with channel_of(broker) as channel:
        await channel.declare_queue("wallets.letters", durable=True)
    assert (await said("check")).exit_code == 1
    asked = await said("prune", typed="wallet")
    assert asked.exit_code == 2
    assert "- queue wallets.letters: nobody declares it" in asked.stderr
    assert "'wallet' is not 'wallets': nothing was removed" in asked.stderr
    assert "- queue wallets.letters" in (await said("plan")).stdout
    assert (await said("prune", typed="wallets")).stdout.endswith("removed: 1\n")
    assert (await said("prune", "--yes", "wallets")).stdout == "removed: 0\n"
    checked = await said("check", "--strict", "--json")
    assert json.loads(checked.stdout)["differs"] is False


async def said(*words: str, typed: str = "") -> Any:
    verb, *rest = words
    line = ["topology", verb, "tests.service.wallet:build", *rest]
    return await asyncio.to_thread(CliRunner().invoke, app, line, input=f"{typed}\n")


# -- policies


POLICIES: list[tuple[str, dict[str, Any], str]] = [
    ("thanking", {"message-ttl": 60_000}, "unhandled after 60 s"),
    ("thanking", {"expires": 3_600_000}, "deletes the queue"),
    ("thanking", {"max-length": 9, "overflow": "drop-head"}, "over 9 messages, drop-head"),
    ("dead", {"max-length": 9}, "takes dead letters away"),
    ("thanking", {"delivery-limit": 2}, "after 2 deliveries instead of 20"),
    ("delay.5s", {"dead-letter-routing-key": "elsewhere"}, "instead of back to theirs"),
]


@pytest.mark.parametrize(("queue", "definition", "why"), POLICIES)
async def test_a_policy_that_takes_messages_away_is_named_by_the_api_and_by_an_export(
    queue: str,
    definition: dict[str, Any],
    why: str,
    broker: RabbitMQNode,
    bus: Bus,
    unique: str,
    tmp_path: Path,
) -> None:
    pattern = f"^{unique}[.]{queue.replace('.', '[.]')}$"
    policy = json.dumps(definition)
    await control(broker, "set_policy", unique, pattern, policy, "--apply-to", "queues")
    for options in ({}, {"definitions": await exported(broker, tmp_path)}):
        plan = await planned(bus, **options)
        named = [change for change in plan.changes if change.sign == "!"]
        assert named, plan.source
        assert why in named[0].why
        assert f"out of the policy {unique}" in named[0].remedy
        assert plan.differs()
    await control(broker, "clear_policy", unique)
    assert not (await planned(bus)).differs()


async def test_an_operators_policy_counts_too(
    broker: RabbitMQNode, bus: Bus, unique: str, tmp_path: Path
) -> None:
    words = (unique, f"^{unique}[.]thanking$", '{"message-ttl": 5000}', "--apply-to", "queues")
    await control(broker, "set_operator_policy", *words)
    for options in ({}, {"definitions": await exported(broker, tmp_path)}):
        assert "after 5 s" in one(await planned(bus, **options), "!").why
    await control(broker, "clear_operator_policy", unique)


async def test_a_consumer_timeout_below_a_time_limit_is_named(bus: Bus, unique: str) -> None:
    plan = await planned(bus, consumer_timeout=2.0)  # thanking has 3 s
    named = {change.name: change for change in plan.changes if change.sign == "!"}
    assert f"{unique}.thanking" in named
    assert named[f"{unique}.thanking"].should == 18.0
    assert plan.differs()
