"""A broker that was spoilt: the plan names it, and what its remedy does makes the check pass."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from typer.testing import CliRunner

from bus import Bus, ConfigurationError, Envelope, Router, Settings, TopologyMismatch, Worker
from bus.cli.main import app
from bus.operate.topology.apply import Applying
from bus.operate.topology.plan import Plan, Planning
from bus.operate.topology.prune import Pruning
from bus.recovery.declared import declared_once
from bus.transports.rabbitmq.planning.change import Change
from tests.databases import drop
from tests.fault.applying import publishing
from tests.fault.conftest import channel_of
from tests.fault.spoiling import control
from tests.service.wallet import Diary, GetWallet, Paid, Pay, Thanked, build, payments
from tests.waiting import until
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


class Spoiler(NamedTuple):
    """What a broker is spoilt with, behind the back of a service."""

    broker: RabbitMQNode
    channel: AbstractChannel
    settings: Settings
    service: str

    def name(self, name: str) -> str:
        return f"{self.service}.{name}"

    async def made(self, name: str, **arguments: Any) -> None:
        """Makes a queue with other arguments in its place."""
        await self.channel.queue_delete(self.name(name))
        await self.channel.declare_queue(self.name(name), durable=True, arguments=arguments or None)

    async def policy(self, queue: str, definition: Mapping[str, Any]) -> None:
        words = (self.service, f"^{self.service}[.]{queue}$", json.dumps(definition))
        await control(self.broker, "set_policy", *words, "--apply-to", "queues")


Spoil = Callable[[Spoiler], Awaitable[None]]


def former_release(settings: Settings, service: str) -> Bus:
    """One with a router whose name nobody has now."""
    letters = Router("letters")

    @letters.event
    async def on_thanked(event: Thanked) -> None:
        pass

    return Bus(service, routers=[payments(), letters], settings=settings)


class Command(NamedTuple):
    """`bus topology` for a service; `folder` is for exports to look at in place of the broker."""

    broker: RabbitMQNode
    settings: Settings
    service: str
    folder: Path | None = None

    async def check(self, seconds: str, *words: str, status: int | None = None) -> Any:
        """What `check` prints; its status must be that, or say whether anything differs."""
        options = ["--json", "--consumer-timeout", seconds, *words]
        done = await self.run("check", *options, *await self.source())
        found = json.loads(done.stdout)
        assert done.exit_code == (found["differs"] if status is None else status)
        return found

    async def source(self) -> list[str]:
        if self.folder is None:
            return []
        return ["--definitions", str(await exported(self.broker, self.folder))]

    async def put_right(self, spoil: Spoil, remedy: str) -> None:
        """Does what a line of the plan says."""
        if "policy" in spoil.__name__:
            await control(self.broker, "clear_policy", self.service)
        elif "prune" in remedy:
            more = ["--with-messages"] if "--with-messages" in remedy else []
            more += ["--yes", self.service, *await self.source()]
            assert (await self.run("prune", *more)).exit_code == 0
        elif "apply" in remedy:
            more = ["--exchanges"] if "--exchanges" in remedy else []
            assert (await self.run("apply", *more)).exit_code == 0

    async def run(self, verb: str, *words: str) -> Any:
        line = ["topology", verb, "tests.fault.killed_in_apply:build", *words]
        environment = {
            "BUS_AMQP_URL": self.settings.amqp_url,
            "BUS_MONGO_URL": self.settings.mongo_url,
            "BUS_MONGO_DB": self.settings.mongo_db,
            "BUS_MANAGEMENT_URL": self.settings.management_url,
            "TEST_APPLIED": self.service,
        }
        return await asyncio.to_thread(CliRunner().invoke, app, line, env=environment)


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
        "what nobody declares, but for queues that this service declared once",
    ]
    assert plan.differs(strictly=True)
    async with without_api(settings, unique) as looking:
        with pytest.raises(ConfigurationError, match="set BUS_MANAGEMENT_URL"):
            await Pruning(looking).prunable()


# -- ten ways to spoil a broker


async def queue_deleted(spoiler: Spoiler) -> None:
    await spoiler.channel.queue_delete(spoiler.name("thanking"))


async def queue_classic(spoiler: Spoiler) -> None:
    await spoiler.made("thanking")


async def queue_with_other_arguments(spoiler: Spoiler) -> None:
    await spoiler.made("commands", **{"x-queue-type": "quorum"})


async def exchange_deleted(spoiler: Spoiler) -> None:
    """A queue of that exchange is unbound with it, which is no line of its own."""
    await spoiler.channel.exchange_delete(spoiler.name("delay.30s"))


async def exchange_of_another_type(spoiler: Spoiler) -> None:
    await spoiler.channel.exchange_delete(spoiler.name("events"))
    name = spoiler.name("events")
    await spoiler.channel.declare_exchange(name, ExchangeType.FANOUT, durable=True)


async def binding_removed(spoiler: Spoiler) -> None:
    queue = await spoiler.channel.get_queue(spoiler.name("thanking"), ensure=False)
    await queue.unbind(spoiler.name("events"), "*.Paid.*")


async def binding_too_much(spoiler: Spoiler) -> None:
    queue = await spoiler.channel.get_queue(spoiler.name("thanking"), ensure=False)
    await queue.bind(spoiler.name("events"), "*.Closed.*")


async def orphan(spoiler: Spoiler) -> None:
    """Left by a release that had one router more."""
    async with former_release(spoiler.settings, spoiler.service):
        pass


async def orphan_with_messages(spoiler: Spoiler) -> None:
    await orphan(spoiler)
    await spoiler.channel.default_exchange.publish(Message(b"5"), spoiler.name("letters"))


async def policy_message_ttl(spoiler: Spoiler) -> None:
    await spoiler.policy("thanking", {"message-ttl": 60_000})


async def policy_max_length(spoiler: Spoiler) -> None:
    await spoiler.policy("thanking", {"max-length": 9, "overflow": "drop-head"})


async def policy_expires(spoiler: Spoiler) -> None:
    await spoiler.policy("thanking", {"expires": 3_600_000})


async def short_timeout(spoiler: Spoiler) -> None:
    """Which is told by an option: RabbitMQ tells it nobody."""


API, FILE, AMQP = "the management API", "an export", "AMQP"
ALL, LISTED = (API, FILE, AMQP), (API, FILE)
SPOILT: list[tuple[Spoil, tuple[str, str, str], str, Sequence[str]]] = [
    (queue_deleted, ("+", "queue", "thanking"), "bus topology apply", ALL),
    (queue_classic, ("~", "queue", "thanking"), "bus topology apply", ALL),
    (queue_with_other_arguments, ("~", "queue", "commands"), "bus topology apply", ALL),
    (exchange_deleted, ("+", "exchange", "delay.30s"), "bus topology apply", ALL),
    (exchange_of_another_type, ("~", "exchange", "events"), "apply APP --exchanges", ALL),
    (binding_removed, ("+", "binding", "thanking"), "bus topology apply", LISTED),
    (binding_too_much, ("-", "binding", "thanking"), "bus topology prune", LISTED),
    (orphan, ("-", "queue", "letters"), "bus topology prune", ALL),
    (orphan_with_messages, ("-", "queue", "letters"), "bus topology prune", ALL),
    (policy_message_ttl, ("!", "policy", "thanking"), "take message-ttl out of", LISTED),
    (policy_max_length, ("!", "policy", "thanking"), "take max-length out of", LISTED),
    (policy_expires, ("!", "policy", "thanking"), "take expires out of", LISTED),
    (short_timeout, ("!", "timeout", "thanking"), "consumer_timeout (milliseconds)", ALL),
]
CASES = [
    pytest.param(spoil, line, remedy, source, id=f"{spoil.__name__}-{source}")
    for spoil, line, remedy, sources in SPOILT
    for source in sources
]


@pytest.mark.parametrize(("spoil", "line", "remedy", "source"), CASES)
async def test_what_is_spoilt_is_named_with_a_remedy_after_which_the_check_passes(
    spoil: Spoil,
    line: tuple[str, str, str],
    remedy: str,
    source: str,
    broker: RabbitMQNode,
    settings: Settings,
    bus: Bus,
    unique: str,
    tmp_path: Path,
) -> None:
    asked = settings.model_copy(update={} if source == API else {"management_url": ""})
    async with channel_of(broker) as channel:
        await spoil(Spoiler(broker, channel, settings, unique))
    command = Command(broker, asked, unique, tmp_path if source == FILE else None)
    seconds = "2" if spoil is short_timeout else "1800"
    checked = await command.check(seconds)
    assert checked["differs"]
    sign, kind, name = line
    found = [
        change
        for change in checked["changes"]
        if (change["sign"], change["kind"], change["name"]) == (sign, kind, f"{unique}.{name}")
    ]
    assert found, checked["changes"]
    assert remedy in found[0]["remedy"]
    await command.put_right(spoil, found[0]["remedy"])
    if spoil is short_timeout:
        figures = [change["should"] for change in checked["changes"] if change["kind"] == "timeout"]
        seconds = f"{max(figures):g}"
    after = await command.check(seconds)
    assert not after["differs"], after["changes"]


@pytest.mark.parametrize("spoil", [spoil for spoil, *_, by in SPOILT if AMQP not in by])
async def test_what_amqp_does_not_see_is_said_and_fails_a_strict_check(
    spoil: Spoil, broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    async with channel_of(broker) as channel:
        await spoil(Spoiler(broker, channel, settings, unique))
    alone = settings.model_copy(update={"management_url": ""})
    command = Command(broker, alone, unique)
    await command.check("1800", status=0)
    strict = await command.check("1800", "--strict", status=1)
    assert strict["differs"] is True
    unseen = [change["name"] for change in strict["changes"] if change["sign"] == "?"]
    assert "bindings" in unseen
    assert "policies" in unseen
    await control(broker, "clear_policy", unique) if "policy" in spoil.__name__ else None


async def test_an_exchange_is_made_anew_without_losing_an_event(
    broker: RabbitMQNode, settings: Settings, unique: str, diary: Diary
) -> None:
    """Nothing stops: not who publishes, nor who handles."""
    async with build(settings, diary, unique) as api, Worker(api), publishing(api) as publisher:
        await publisher.go_on(20)
        async with channel_of(broker) as channel:
            await channel.exchange_delete(f"{unique}.events")
            await channel.declare_exchange(f"{unique}.events", ExchangeType.DIRECT, durable=True)
        await publisher.go_on(20)
        async with build(settings, Diary(), unique).looking() as looking:
            with pytest.raises(TopologyMismatch, match=r"type is direct, not topic.*--exchanges"):
                await Applying(looking).apply()
            await Applying(looking).apply(exchanges=True)
            assert not (await planned(looking)).differs()
        await publisher.go_on(20)
        await publisher.rest()
        await until(lambda: len({*diary.seen}) == publisher.paid, "all are handled", within=60)
        for number in range(publisher.paid):
            await until(partial(is_projected, api, f"w{number}"), "all are projected", within=60)


async def is_projected(bus: Bus, wallet: str) -> bool:
    found = await bus.query(GetWallet(wallet_id=wallet))
    return found is not None and found.total == 1


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


async def test_by_amqp_alone_what_the_service_once_declared_is_found_and_pruned(
    settings: Settings, unique: str
) -> None:
    """By name, which each process notes that declares."""
    alone = settings.model_copy(update={"management_url": ""})
    async with former_release(alone, unique), build(alone, Diary(), unique):
        pass
    async with without_api(settings, unique) as bus:
        change = one(await planned(bus), "-")
        assert (change.kind, change.name) == ("queue", f"{unique}.letters")
        pruned = await Pruning(bus).prune(await Pruning(bus).prunable())
        assert [change.name for change in pruned.removed] == [f"{unique}.letters"]
        assert not (await planned(bus)).differs()
        assert f"{unique}.letters" in await declared_once(bus.runtime)
        await Applying(bus).apply()
        known = await declared_once(bus.runtime)
        assert f"{unique}.letters" not in known
        assert known[f"{unique}.thanking"] == {(f"{unique}.events", "*.Paid.*")}


async def test_what_comes_back_from_a_delay_to_a_pruned_queue_stops_no_other_retry(
    broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    """RabbitMQ keeps what it cannot bring back: 32 such messages stop a delay for all queues."""
    old, delay = f"{unique}.old", f"{unique}.delay.30s"
    async with channel_of(broker) as channel:
        await channel.declare_queue(old, durable=True)
        exchange = await channel.get_exchange(delay)
        for _ in range(40):
            await exchange.publish(Message(b"{}"), old)
        await exchange.publish(Message(b"{}", type="other"), f"{unique}.thanking")
        pruning = Pruning(bus)
        (stays,) = (await pruning.prune(await pruning.prunable())).kept
        assert stays.why.startswith("40 messages in delays come back to it")
        outcome = await pruning.prune(await pruning.prunable(), with_messages=True)
        assert [change.name for change in outcome.removed] == [old]
        left = await (await channel.get_queue(delay)).get()
        assert left.type == "other"
        assert left.routing_key == f"{unique}.thanking"
        await left.ack()
        found = await channel.declare_queue(delay, passive=True)
        assert found.declaration_result.message_count == 0


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


# -- least rights of a follower


async def test_a_follower_may_not_configure_its_owners_exchange_and_plans_and_applies(
    broker: RabbitMQNode, real_settings: Settings, unique: str, mongo_url: str, diary: Diary
) -> None:
    owner, own = f"{unique}o", rf"^{unique}\."
    rights = (own, rf"^({unique}\.|amq\.default$)", rf"^({unique}\.|{owner}\.events$)")
    await control(broker, "add_user", unique, "secret")
    await control(broker, "set_permissions", unique, *rights)
    url = broker.url.replace("guest:guest", f"{unique}:secret")
    limited = real_settings.model_copy(update={"amqp_url": url})
    with pytest.raises(ConfigurationError, match=rf"no exchange {owner}\.events yet.*may not make"):
        async with follower(limited, unique, owner, diary):
            pass
    by_owner = real_settings.model_copy(update={"amqp_url": broker.url, "mongo_db": owner})
    try:
        async with build(by_owner, Diary(), owner) as shop:
            async with follower(limited, unique, owner, diary) as bus, Worker(bus):
                await shop.execute(Pay(wallet_id="a", amount=1))
                await until(lambda: diary.seen, "it hears of its owner's events")
            async with follower(limited, unique, owner, diary).looking() as looking:
                assert lines(await planned(looking)) == []
                await Applying(looking).apply()
    finally:
        await drop(mongo_url, owner)


def follower(settings: Settings, service: str, owner: str, diary: Diary) -> Bus:
    hearing = Router("hearing")

    @hearing.event
    async def on_paid(event: Paid, envelope: Envelope) -> None:
        diary.seen.append((envelope.stream, envelope.version))

    return Bus(service, routers=[hearing], foreign={"wallet": owner}, settings=settings)
