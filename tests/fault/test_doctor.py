"""A broker that was spoilt: `bus doctor` names it with its remedy, and what that does makes the
service well again."""

import asyncio
import json
import re
import shlex
from typing import Any

import pytest
import structlog
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from typer.testing import CliRunner

from bus import Bus, Settings, Worker
from bus.cli.main import app
from bus.operate.doctor.doctor import Doctor
from bus.operate.topology.apply import Applying
from bus.operate.topology.prune import Pruning
from tests.fault.conftest import channel_of
from tests.fault.diagnosis import ALWAYS, amiss, one
from tests.fault.least_rights import rights_of
from tests.fault.spoiling import (
    Spoil,
    control,
    declared_classic,
    without_binding,
    without_queue,
)
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until
from tools.services import RabbitMQNode


@pytest.fixture
def broker(managed: RabbitMQNode) -> RabbitMQNode:
    return managed


@pytest.fixture
def settings(managed_settings: Settings) -> Settings:
    return managed_settings


@pytest.fixture
async def bus(settings: Settings, unique: str) -> Bus:
    """A service that has worked, and does not now."""
    bus = build(settings, Diary(), unique)
    async with bus, Worker(bus):
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=30)
    return build(settings, Diary(), unique)


async def test_a_healthy_service_is_well_and_only_what_its_servers_are_is_said(bus: Bus) -> None:
    assert await amiss(bus) == []
    found = await Doctor(bus).examine()
    said = [finding.what for finding in found if finding.level == "warning"]
    assert len(said) == 2
    assert all(any(words in what for words in ALWAYS) for what in said)
    ok = " ".join(finding.what for finding in found if finding.level == "ok")
    for words in (
        "RabbitMQ 3",
        "MongoDB ",
        "as declared, by",
        "its user may write and declare",
        "a majority confirms",
        "nothing waits",
        "retries: on the ladder of delays",
    ):
        assert words in ok
    assert await amiss(bus) == []  # it has changed nothing


# -- what is declared


async def with_classic(channel: AbstractChannel, service: str) -> None:
    await declared_classic(channel, f"{service}.thanking")


DECLARED: list[tuple[Spoil, str]] = [
    (without_queue, "there is no such queue"),
    (with_classic, "x-queue-type is classic, not quorum"),
    (without_binding, "is not bound to"),
]


@pytest.mark.parametrize(("spoil", "words"), DECLARED)
async def test_what_differs_from_what_is_declared_is_well_after_apply(
    spoil: Spoil, words: str, broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    async with channel_of(broker) as channel:
        await spoil(channel, unique)
    finding = one(await amiss(bus), "topology", words)
    assert (finding.level, finding.promise) == ("error", "G8")
    assert "bus topology apply" in finding.remedy
    async with bus.looking():
        await Applying(bus).apply()
    assert await amiss(bus) == []


async def test_an_exchange_of_another_type_is_told_once_and_nothing_is_sent_to_it(
    broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    name = f"{unique}.commands"
    async with channel_of(broker) as channel:
        await channel.exchange_delete(name)
        exchange = await channel.declare_exchange(name, "fanout", durable=True)
        queue = await channel.get_queue(name, ensure=False)
        await queue.bind(exchange)
        found = await amiss(bus)
        assert "--exchanges" in one(found, "topology", f"exchange {name}").remedy
        assert {finding.part for finding in found} == {"topology"}
        assert await queue.get(fail=False) is None
    async with bus.looking():
        await Applying(bus).apply(exchanges=True)
    assert await amiss(bus) == []


async def test_an_orphan_that_fills_is_an_error_and_an_empty_one_a_warning(
    broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    async with channel_of(broker) as channel:
        for name in ("empty", "full"):
            await channel.declare_queue(f"{unique}.{name}", durable=True)
        await channel.default_exchange.publish(Message(b"full"), f"{unique}.full")

    async def is_counted() -> bool:  # the management API counts now and then
        found = await amiss(bus, "topology")
        return [finding.level for finding in found] == ["warning", "error"]

    await until(is_counted, "the message is counted")
    full = one(await amiss(bus), "topology", f"{unique}.full (1 messages)")
    assert "bus topology prune APP --with-messages deletes it" in full.remedy
    async with bus.looking():
        pruning = Pruning(bus)
        await pruning.prune(await pruning.prunable(), with_messages=True)
    assert await amiss(bus) == []


POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"message-ttl": 60_000}, "unhandled after 60 s"),
    ({"max-length": 9, "overflow": "drop-head"}, "over 9 messages, drop-head"),
]


@pytest.mark.parametrize(("definition", "words"), POLICIES)
async def test_a_policy_that_takes_messages_away_is_an_error(
    definition: dict[str, Any], words: str, broker: RabbitMQNode, bus: Bus, unique: str
) -> None:
    pattern, policy = f"^{unique}[.]thanking$", json.dumps(definition)
    await control(broker, "set_policy", unique, pattern, policy, "--apply-to", "queues")
    finding = one(await amiss(bus), "topology", words)
    assert (finding.level, finding.promise) == ("error", "G8")
    assert f"out of the policy {unique}" in finding.remedy
    await control(broker, "clear_policy", unique)
    assert await amiss(bus) == []


async def test_a_consumer_timeout_below_a_time_limit_is_an_error(bus: Bus) -> None:
    finding = one(await amiss(bus, consumer_timeout=2.0), "topology", "time_limit of 3 s")
    assert (finding.level, finding.promise) == ("error", "G4")
    least = re.search(r"to (\d+) at least", finding.remedy)
    assert least
    assert not [
        finding
        for finding in await amiss(bus, consumer_timeout=int(least[1]) / 1000)
        if "thanking" in finding.what
    ]


# -- the broker itself


async def test_an_alarm_is_named_by_the_api_and_by_publishing(
    broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    without_api = build(settings.model_copy(update={"management_url": ""}), Diary(), unique)
    await control(broker, "set_vm_memory_high_watermark", "0.000001")
    try:

        async def is_noticed() -> bool:
            return any("a memory alarm at the node" in each.what for each in await amiss(bus))

        await until(is_noticed, "the alarm is noticed")
        by_publishing = one(await amiss(without_api), "broker", "alarm")
    finally:
        await control(broker, "set_vm_memory_high_watermark", "0.4")
    assert by_publishing.level == "error"
    assert "rabbitmq-diagnostics alarms" in by_publishing.remedy

    async def is_well() -> bool:
        return await amiss(bus) == []

    await until(is_well, "the alarm is over")


async def user(broker: RabbitMQNode, name: str, *rights: str) -> str:
    await control(broker, "add_user", name, "secret")
    await control(broker, "set_permissions", name, *rights)
    return broker.url.replace("guest:guest", f"{name}:secret")


@pytest.mark.parametrize("rights", [("", "", ".*"), (".*", r"^{}\.", ".*"), ("", ".*", ".*")])
async def test_a_right_that_was_taken_is_named_with_the_command_that_gives_it(
    rights: tuple[str, str, str], broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    url = await user(broker, unique, *(right.format(unique) for right in rights))
    theirs = build(settings.model_copy(update={"amqp_url": url}), Diary(), unique)
    (finding, *_) = await amiss(theirs)
    assert (finding.part, finding.level) == ("broker", "error")
    assert "ACCESS_REFUSED" in finding.what
    command = finding.remedy[finding.remedy.index("set_permissions") :]
    words = shlex.split(command.replace("VHOST", "/").replace("USER", unique))
    await control(broker, *words)
    assert await amiss(theirs) == []


async def test_who_may_not_see_nodes_is_well_and_who_is_not_known_to_the_api_is_an_error(
    broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    def asking(user: str) -> Bus:
        url = broker.management_url.replace("guest:guest", user)
        return build(settings.model_copy(update={"management_url": url}), Diary(), unique)

    await user(broker, unique, ".*", ".*", ".*")
    await control(broker, "set_user_tags", unique, "management")
    assert await amiss(asking(f"{unique}:secret")) == []
    found = await Doctor(asking(f"{unique}:secret")).examine(["broker"])
    assert any("lacks the tag monitoring" in finding.what for finding in found)
    refused = one(await amiss(asking(f"{unique}:wrong"), "broker"), "broker", "with 401")
    assert refused.level == "error"
    assert "check user and password in BUS_MANAGEMENT_URL" in refused.remedy


@pytest.mark.parametrize(("whose", "lacks"), [("API", True), ("worker", False)])
async def test_with_the_least_rights_of_a_worker_it_is_well_and_of_an_api_that_is_said(
    whose: str, lacks: bool, broker: RabbitMQNode, settings: Settings, bus: Bus, unique: str
) -> None:
    url = await user(broker, unique, *rights_of(whose, unique))
    least = settings.model_copy(update={"amqp_url": url, "declare": "never"})
    found = await amiss(build(least, Diary(), unique))
    assert [(one.part, one.level) for one in found] == [("broker", "warning")] * lacks
    assert all("enough for an API, but not for a worker" in one.what for one in found)


async def test_a_virtual_host_that_is_missing_is_named_and_the_rest_goes_on(
    broker: RabbitMQNode, settings: Settings, unique: str
) -> None:
    elsewhere = settings.model_copy(update={"amqp_url": f"{broker.url.rstrip('/')}/{unique}"})
    bus = build(elsewhere, Diary(), unique)
    found = await amiss(bus)
    finding = one(found, "broker", "does not open the virtual host")
    assert (finding.level, len([one for one in found if one.part == "topology"])) == ("error", 0)
    assert "rabbitmqctl add_vhost" in finding.remedy
    await control(broker, "add_vhost", unique)
    await control(broker, "set_permissions", "-p", unique, "guest", ".*", ".*", ".*")
    assert not [one for one in await amiss(bus) if one.part == "broker"]


async def test_a_broker_that_is_away_hides_nothing_of_the_database(
    broker: RabbitMQNode, bus: Bus
) -> None:
    await asyncio.to_thread(broker.stop)
    finding = one(await amiss(bus), "broker", "RabbitMQ does not answer at")
    assert finding.remedy == "is it running, and is its URL right?"
    parts = {finding.part for finding in await Doctor(bus).examine() if finding.level == "ok"}
    assert {"database", "log", "contents"} <= parts
    await asyncio.to_thread(broker.start)
    assert await amiss(bus) == []


async def test_the_command_exits_with_1_for_an_error_alone_and_its_json_is_stable(
    broker: RabbitMQNode, settings: Settings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("amqp_url", "management_url", "mongo_url"):
        monkeypatch.setenv(f"BUS_{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("BUS_MONGO_DB", unique)
    async with build(settings, Diary()) as bus, Worker(bus):
        pass
    assert (await said()).exit_code == 0
    assert (await said("--strict")).exit_code == 1  # one node, one member
    strictly = await said("--strict", "--only", "topology", "--only", "log")
    assert (strictly.exit_code, strictly.stderr) == (0, "")
    async with channel_of(broker) as channel:
        await channel.queue_delete("wallets.thanking")
    spoilt = await said("--json")
    assert spoilt.exit_code == 1
    report = json.loads(spoilt.stdout)
    assert report["status"] == "error"
    assert [finding for finding in report["findings"] if finding["level"] == "error"] == [
        {
            "part": "topology",
            "level": "error",
            "what": "queue wallets.thanking: there is no such queue",
            "remedy": "bus topology apply APP",
            "promise": "G8",
        }
    ]
    printed = (await said()).stdout
    assert "topology\n  x queue wallets.thanking: there is no such queue (G8" in printed
    assert printed.endswith("Doctor: errors: 1, warnings: 2.\n")


async def said(*words: str) -> Any:
    structlog.reset_defaults()  # as in a process of its own
    line = ["doctor", "tests.service.wallet:build", *words]
    return await asyncio.to_thread(CliRunner().invoke, app, line)
