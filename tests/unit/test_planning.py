"""What is declared against what is found: each way to spoil a broker has its line, and a remedy."""

import math
from collections.abc import Iterable
from typing import Any

import pytest

from bus.transports.rabbitmq.planning.change import Change
from bus.transports.rabbitmq.planning.diff import changes
from bus.transports.rabbitmq.planning.found import (
    Found,
    FoundExchange,
    FoundPolicy,
    FoundQueue,
    Unseen,
)
from bus.transports.rabbitmq.planning.wanted import wanted_exchanges, wanted_queues
from bus.transports.topology import (
    DELIVERY_LIMIT,
    Topology,
    command_queue,
    handler_queue,
    projection_queues,
    requests_queue,
)

TOPOLOGY = Topology(
    "bank",
    (
        command_queue("bank"),
        handler_queue("bank", "mail", ["Opened", "Paid"], {"purse": "shop"}),
        *projection_queues("bank", "balances", ["account"], 2),
        requests_queue("bank"),
    ),
)


def in_order() -> Found:
    """A broker as it should be."""
    queues = {
        queue.name: FoundQueue(
            queue.name,
            messages=0,
            consumers=1,
            arguments=queue.arguments,
            bindings=frozenset(queue.bindings),
            policy=FoundPolicy("", {}),
        )
        for queue in wanted_queues(TOPOLOGY)
    }
    exchanges = {
        name: FoundExchange(name, kind) for name, kind in wanted_exchanges(TOPOLOGY).items()
    }
    return Found("a test", queues, exchanges)


def with_queue(name: str, **other: Any) -> Found:
    found = in_order()
    queue = found.queues.get(name, FoundQueue(name, 0, 0, {}, frozenset()))
    return found._replace(queues={**found.queues, name: queue._replace(**other)})


def without(name: str) -> Found:
    found = in_order()
    return found._replace(
        queues={key: queue for key, queue in found.queues.items() if key != name},
        exchanges={key: exchange for key, exchange in found.exchanges.items() if key != name},
    )


def with_arguments(name: str, **arguments: Any) -> Found:
    """None takes an argument away."""
    own = {**(in_order().queues[name].arguments or {})}
    own |= {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    return with_queue(name, arguments={k: v for k, v in own.items() if v is not None})


def with_policy(name: str, **definition: Any) -> Found:
    policy = {key.replace("_", "-"): value for key, value in definition.items()}
    return with_queue(name, policy=FoundPolicy("short", policy))


def planned(found: Found, **options: Any) -> Change:
    """The one line of the plan."""
    (change,) = changes(TOPOLOGY, found, **options)
    assert change.why
    assert change.remedy
    return change


def signs(plan: Iterable[Change]) -> list[str]:
    return [change.sign for change in plan]


def test_a_broker_that_is_in_order_has_an_empty_plan() -> None:
    assert changes(TOPOLOGY, in_order(), limits={"bank.mail": 300.0}, ahead=6) == []


def test_an_empty_broker_gets_everything_and_its_bindings_need_no_lines_of_their_own() -> None:
    plan = changes(TOPOLOGY, Found("a test", {}, {}))
    made = {change.name for change in plan}
    assert made == {*wanted_exchanges(TOPOLOGY), *(q.name for q in wanted_queues(TOPOLOGY))}
    assert {(change.sign, change.kind) for change in plan} == {("+", "queue"), ("+", "exchange")}


# -- missing


def test_a_missing_queue_is_made() -> None:
    change = planned(without("bank.mail"))
    assert change[:4] == ("+", "queue", "bank.mail", "there is no such queue")
    assert change.remedy == "bus topology apply APP"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("bank.events", "topic"), ("bank.delay.5s", "fanout"), ("shop.events", "topic")],
)
def test_a_missing_exchange_is_made_and_one_of_another_service_too(name: str, kind: str) -> None:
    found = without(name)
    if name == "bank.delay.5s":  # which is a queue too
        found = found._replace(queues=in_order().queues)
    change = planned(found)
    assert (change.sign, change.kind, change.name, change.should) == ("+", "exchange", name, kind)


def test_missing_bindings_of_a_queue_are_one_line_for_each_exchange() -> None:
    plan = changes(TOPOLOGY, with_queue("bank.mail", bindings=frozenset()))
    assert signs(plan) == ["+", "+"]
    assert [change.why for change in plan] == [
        "is not bound to bank.events: *.Opened.*, *.Paid.*",
        "is not bound to shop.events: purse.Opened.*, purse.Paid.*",
    ]
    plan = changes(TOPOLOGY, with_queue("bank.balances.1of2", bindings=frozenset()))
    (change,) = plan
    assert change.why.endswith("account.*.1, account.*.11, account.*.13, account.*.15 and 28 more")
    assert len(change.should["bank.events"]) == 32


# -- other than declared


def test_a_queue_of_another_type_is_changed_and_its_messages_are_counted() -> None:
    found = with_queue("bank.mail", arguments={}, messages=7)
    change = planned(found)
    assert (change.sign, change.kind, change.messages) == ("~", "queue", 7)
    assert change.was["x-queue-type"] == "classic"
    assert change.should["x-queue-type"] == "quorum"
    assert change.why.startswith("x-queue-type is classic, not quorum; x-delivery-limit is unset,")
    assert "stop what consumes it" in change.remedy


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"single_active_consumer": None}, "x-single-active-consumer is unset, not true"),
        ({"delivery_limit": 3}, "x-delivery-limit is 3, not 20"),
        ({"max_length": 10}, "x-max-length is 10, not unset"),
        ({"dead_letter_exchange": ""}, "x-dead-letter-exchange is '', not bank.dead"),
    ],
)
def test_a_queue_with_other_arguments_is_changed(arguments: dict[str, Any], why: str) -> None:
    change = planned(with_arguments("bank.balances.0of2", **arguments))
    assert (change.sign, change.name, change.why) == ("~", "bank.balances.0of2", why)
    assert list(change.was) == list(change.should)


def test_a_queue_that_does_not_outlive_the_broker_is_changed() -> None:
    assert planned(with_queue("bank.mail", durable=False)).why == "durable is false, not true"


def test_an_exchange_of_another_type_is_made_anew_by_whose_it_is() -> None:
    found = in_order()
    other = FoundExchange("bank.events", "fanout", arguments={"alternate-exchange": "lost"})
    change = planned(found._replace(exchanges={**found.exchanges, "bank.events": other}))
    assert (change.sign, change.kind) == ("~", "exchange")
    assert change.why == "type is fanout, not topic; alternate-exchange is lost, not unset"
    assert change.remedy.startswith("run bus topology apply APP --exchanges, which")
    foreign = FoundExchange("shop.events", "fanout")
    change = planned(found._replace(exchanges={**found.exchanges, "shop.events": foreign}))
    assert change.remedy.startswith("it is that of shop: let its user run")
    hidden = FoundExchange("bank.events", "topic", auto_delete=True, internal=True)
    change = planned(found._replace(exchanges={**found.exchanges, "bank.events": hidden}))
    assert change.why == "auto-delete is true, not false; internal is true, not false"


def test_what_rabbitmq_said_to_a_declaration_is_why() -> None:
    found = with_queue("bank.mail", arguments=None, bindings=None, refusal="it says no")
    assert planned(found)[:4] == ("~", "queue", "bank.mail", "it says no")
    found = in_order()
    other = FoundExchange("bank.events", refusal="it says no")
    found = found._replace(exchanges={**found.exchanges, "bank.events": other})
    assert planned(found)[:4] == ("~", "exchange", "bank.events", "it says no")


def test_a_queue_that_was_being_moved_is_changed_and_what_stands_aside_is_not_pruned() -> None:
    change = planned(with_queue("bank.mail.moving", messages=9))
    assert (change.sign, change.name, change.messages) == ("~", "bank.mail", 9)
    assert "goes on where that ended" in change.remedy


# -- partitions


def test_another_number_of_partitions_is_a_warning_and_its_former_queues_are_left_to_a_worker() -> (
    None
):
    former = "bank.balances"
    plan = changes(
        TOPOLOGY, with_queue(former, messages=7), kept={former}, divided={former: (1, 2)},
        former={former},
    )  # fmt: skip
    assert [(c.sign, c.kind, c.name, c.is_warning) for c in plan] == [
        ("~", "partitions", former, True),
        ("-", "queue", former, True),
    ]
    assert plan[0].why == "the projection has 1, and this release 2"
    assert plan[1].messages == 7


# -- declared by nobody


def test_a_queue_that_nobody_declares_is_pruned_and_its_messages_are_counted() -> None:
    change = planned(with_queue("bank.post", messages=5))
    assert (change.sign, change.kind, change.name, change.messages) == (
        "-",
        "queue",
        "bank.post",
        5,
    )
    assert change.remedy.startswith("bus topology prune APP --with-messages deletes it")
    assert planned(with_queue("bank.post")).remedy.startswith("bus topology prune APP deletes it")


def test_a_queue_that_nobody_declares_and_one_with_its_bindings_hint_at_a_new_name() -> None:
    bindings = in_order().queues["bank.mail"].bindings
    old = FoundQueue("bank.post", 7, 0, {}, bindings)
    for found in (in_order(), without("bank.mail")):  # applied by the new release, and not yet
        plan = changes(TOPOLOGY, found._replace(queues={**found.queues, old.name: old}))
        change = plan[-1]
        assert (change.sign, change.name, change.messages) == ("-", "bank.post", 7)
        assert "bank.mail has the same bindings: was it renamed?" in change.why
        assert change.remedy.startswith("bus topology apply APP --rename post=mail brings all")


def test_other_bindings_and_those_of_projections_are_no_hint() -> None:
    for name in ("bank.mail", "bank.balances.0of2", "bank.commands", "bank.history.requests"):
        bindings = in_order().queues[name].bindings or frozenset()
        other = bindings - {min(bindings)} if name == "bank.mail" else bindings
        change = planned(with_queue("bank.post", bindings=other))
        assert "--rename" not in change.remedy


def test_what_consumes_a_queue_that_nobody_declares_is_to_be_stopped_first() -> None:
    change = planned(with_queue("bank.post", consumers=2))
    assert "consumed (2)" in change.why
    assert change.remedy.startswith("stop what consumes it")


def test_queues_of_others_and_those_that_a_worker_looks_after_are_left_alone() -> None:
    for name in ("bankers.mail", "shop.mail", "bank"):
        assert changes(TOPOLOGY, with_queue(name)) == []
    former = with_queue("bank.balances", messages=3)
    assert changes(TOPOLOGY, former, kept={"bank.balances"}) == []
    assert signs(changes(TOPOLOGY, former)) == ["-"]


def test_an_exchange_that_nobody_declares_is_pruned() -> None:
    found = in_order()
    old = FoundExchange("bank.delay.7s", "fanout")
    change = planned(found._replace(exchanges={**found.exchanges, old.name: old}))
    assert (change.sign, change.kind, change.name) == ("-", "exchange", "bank.delay.7s")


def test_a_binding_that_nobody_needs_any_more_is_pruned() -> None:
    more = in_order().queues["bank.mail"].bindings or frozenset()
    change = planned(with_queue("bank.mail", bindings=more | {("bank.events", "*.Closed.*")}))
    assert (change.sign, change.kind, change.was) == (
        "-",
        "binding",
        {"bank.events": ["*.Closed.*"]},
    )


# -- policies


@pytest.mark.parametrize(
    ("queue", "definition", "why"),
    [
        ("bank.mail", {"message_ttl": 1500}, "moves messages to bank.dead unhandled after 1.5 s"),
        ("bank.dead", {"message_ttl": 1000}, "takes dead letters away before a worker keeps them"),
        ("bank.mail", {"expires": 60_000}, "deletes the queue and what is in it once nobody uses"),
        ("bank.delay.30s", {"expires": 60_000}, "deletes the queue and what is in it"),
        (
            "bank.mail",
            {"max_length": 1000, "overflow": "drop-head"},
            "moves messages to bank.dead unhandled from the head of the queue (over 1,000 ",
        ),
        ("bank.dead", {"max_length_bytes": 5000}, "takes dead letters away before a worker keeps"),
        ("bank.mail", {"overflow": "drop-head"}, "turns at-least-once off"),
        ("bank.mail", {"delivery_limit": 5}, "after 5 deliveries instead of 20"),
        ("bank.dead", {"delivery_limit": 20}, "before a worker keeps them after 20 deliveries"),
        ("bank.delay.5s", {"dead_letter_routing_key": "x"}, "to the queue 'x' instead of back"),
        ("bank.mail", {"delayed_retry_type": "failed"}, "no count shows it, so the queue looks"),
        ("bank.dead", {"delayed_retry_type": "all"}, "later messages overtake it"),
    ],
)
def test_a_policy_that_takes_messages_away_is_named_with_what_it_does(
    queue: str, definition: dict[str, Any], why: str
) -> None:
    change = changes(TOPOLOGY, with_policy(queue, **definition))[0]
    assert (change.sign, change.kind, change.name) == ("!", "policy", queue)
    assert why in change.why
    assert not change.is_warning
    (key,) = change.was
    assert f"take {key} out of the policy short" in change.remedy


@pytest.mark.parametrize(
    ("queue", "definition"),
    [
        ("bank.dead", {"dead_letter_exchange": "theirs"}),
        ("bank.delay.600s", {"message_ttl": 1000}),
    ],
)
def test_a_policy_that_costs_no_message_is_a_warning(
    queue: str, definition: dict[str, Any]
) -> None:
    change = planned(with_policy(queue, **definition))
    assert (change.sign, change.is_warning) == ("!", True)


@pytest.mark.parametrize(
    ("queue", "definition"),
    [
        ("bank.mail", {"dead_letter_exchange": "theirs"}),  # an argument wins
        ("bank.mail", {"dead_letter_routing_key": "theirs"}),  # to a fanout
        ("bank.mail", {"delivery_limit": DELIVERY_LIMIT}),
        ("bank.mail", {"delivery_limit": -1}),
        ("bank.mail", {"max_length": 100}),  # what is refused waits in the log
        ("bank.mail", {"max_length": 100, "overflow": "reject-publish"}),
        ("bank.delay.5s", {"message_ttl": 3_600_000}),
        ("bank.delay.5s", {"delivery_limit": 3}),  # nobody takes from it
        ("bank.delay.5s", {"delayed_retry_type": "failed"}),
        ("bank.mail", {"delayed_retry_type": "disabled"}),
        ("bank.mail", {"ha_mode": "all", "queue_mode": "lazy"}),
    ],
)
def test_a_policy_that_changes_nothing_for_us_is_passed_over(
    queue: str, definition: dict[str, Any]
) -> None:
    assert changes(TOPOLOGY, with_policy(queue, **definition)) == []


# -- time-outs


@pytest.mark.parametrize(
    ("limit", "broker", "definition", "is_warning", "told"),
    [
        (3600.0, None, {}, False, "1800 s (RabbitMQ's default): shorter than its handlers'"),
        (600.0, None, {}, True, "a message may wait for 6 tries of 600 s"),
        (300.0, 60.0, {}, False, "60 s (rabbitmq.conf): shorter"),
        (300.0, 7200.0, {"consumer_timeout": 120_000}, False, "120 s (policy short): shorter"),
        (math.inf, 86_400.0, {}, True, "its handlers have no time_limit"),
    ],
)
def test_a_consumer_timeout_that_is_too_short_for_a_handler_is_named_with_the_figure_to_set(
    limit: float, broker: float | None, definition: dict[str, Any], is_warning: bool, told: str
) -> None:
    found = with_policy("bank.mail", **definition)._replace(timeout=broker)
    change = planned(found, limits={"bank.mail": limit}, ahead=6)
    assert (change.sign, change.kind, change.is_warning) == ("!", "timeout", is_warning)
    assert told in change.why
    if limit < math.inf:
        assert change.should == 6 * limit
        assert f" to {6000 * limit:.0f} at least" in change.remedy


def test_a_consumer_timeout_that_is_long_enough_is_passed_over() -> None:
    found = in_order()._replace(timeout=3600.0)
    assert changes(TOPOLOGY, found, limits={"bank.mail": 600.0}, ahead=6) == []


# -- what cannot be seen


def test_what_a_source_cannot_see_is_said_and_never_taken_for_missing() -> None:
    names = {queue.name: FoundQueue(queue.name, 0, 0) for queue in wanted_queues(TOPOLOGY)}
    exchanges = {name: FoundExchange(name) for name in wanted_exchanges(TOPOLOGY)}
    unseen = (Unseen("policies", "set BUS_MANAGEMENT_URL"),)
    found = Found("AMQP", names, exchanges, is_whole=False, unseen=unseen)
    change = planned(found)
    assert (change.sign, change.name, change.is_warning) == ("?", "policies", True)
