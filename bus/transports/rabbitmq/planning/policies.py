"""Policies and time-outs that work against what is declared. No I/O.

Of a policy and an argument of a queue, RabbitMQ takes the smaller for lengths, times and limits,
the policy for `overflow`, and the argument for where dead letters go.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bus.transports.rabbitmq.planning.change import CORRECT, Change
from bus.transports.rabbitmq.planning.found import NO_POLICY, FoundPolicy, FoundQueue
from bus.transports.rabbitmq.planning.wanted import WantedQueue

TIMEOUT = 1800.0
"""Seconds: RabbitMQ's consumer_timeout, if nobody set another one."""

DELAYED_RETRY, _NO_DELAY = "delayed-retry-type", "disabled"
_REJECTS = "reject-publish"
_LENGTHS = {"max-length": "messages", "max-length-bytes": "bytes"}


def against_policy(wanted: WantedQueue, found: FoundQueue) -> Iterator[Change]:
    """Yields what the policies on a queue do against what it is declared for."""
    policy = found.policy or NO_POLICY
    for key, why, is_warning in _harms(wanted, policy.definition):
        yield Change(
            CORRECT,
            "policy",
            wanted.name,
            why,
            remedy=_remedy(policy, key),
            was={key: policy.definition[key]},
            messages=found.messages or 0,
            is_warning=is_warning,
        )


def _remedy(policy: FoundPolicy, key: str) -> str:
    name = policy.name or "on this queue"
    return (
        f"take {key} out of the policy {name}, or give it a pattern that spares this queue "
        f"(rabbitmqctl list_policies, list_operator_policies, set_policy)"
    )


def _harms(wanted: WantedQueue, definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yields the key of each harmful setting, what it does, and whether that is a warning only."""
    yield from _times(wanted, definition)
    yield from _overflows(wanted, definition)
    yield from _limits(wanted, definition)
    yield from _targets(wanted, definition)
    yield from _delays(wanted, definition)


def _times(wanted: WantedQueue, definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    if (ttl := definition.get("message-ttl")) is not None:
        seconds, own = ttl / 1000, wanted.arguments.get("x-message-ttl")
        if own is None:
            yield "message-ttl", f"{_taken_out(wanted)} after {seconds:g} s", False
        elif ttl < own:
            why = f"ends this delay after {seconds:g} s instead of {own / 1000:g} s"
            yield "message-ttl", why, True
    if (expires := definition.get("expires")) is not None:
        why = f"deletes the queue and what is in it once nobody uses it for {expires / 1000:g} s"
        yield "expires", why, False


def _taken_out(wanted: WantedQueue) -> str:
    """Says what becomes of a message that RabbitMQ takes out of the queue."""
    target = wanted.arguments.get("x-dead-letter-exchange")
    if target is None:
        return "takes dead letters away before a worker keeps them"
    return f"moves messages to {target} unhandled" if target else "brings messages back too early"


def _overflows(
    wanted: WantedQueue, definition: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
    """What a full queue refuses waits in the log, but what it drops is not handled."""
    overflow = definition.get("overflow", wanted.arguments.get("x-overflow"))
    if overflow == _REJECTS:
        return
    for key, unit in _LENGTHS.items():
        if (most := definition.get(key)) is not None:
            over = f"over {most:,} {unit}, {overflow or 'drop-head'}"
            yield key, f"{_taken_out(wanted)} from the head of the queue ({over})", False
    if "overflow" in definition and "x-dead-letter-strategy" in wanted.arguments:
        why = "turns at-least-once off: a message that its next queue does not take is lost"
        yield "overflow", why, False


def _limits(wanted: WantedQueue, definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    own, limit = wanted.arguments.get("x-delivery-limit"), definition.get("delivery-limit")
    if own is not None and limit is not None and 0 <= limit < own:
        usual = f" instead of {own:,}" if "x-dead-letter-exchange" in wanted.arguments else ""
        yield "delivery-limit", f"{_taken_out(wanted)} after {limit} deliveries{usual}", False


def _targets(wanted: WantedQueue, definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """An argument wins over a policy, so only a target that we leave open can be another's."""
    target = definition.get("dead-letter-exchange")
    if target is not None and "x-dead-letter-exchange" not in wanted.arguments:
        why = f"sends what is taken out of this queue to {target!r}, where no worker looks"
        yield "dead-letter-exchange", why, True
    key = definition.get("dead-letter-routing-key")
    if key is not None and wanted.arguments.get("x-dead-letter-exchange") == "":
        why = f"sends delayed messages to the queue {key!r} instead of back to theirs"
        yield "dead-letter-routing-key", why, False


def _delays(wanted: WantedQueue, definition: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """From 4.3 on. Nobody takes from the ladder, so there is nothing that it could hold back."""
    if holds_back(definition) and "x-message-ttl" not in wanted.arguments:
        why = (
            "holds back what a consumer had when its channel was lost: no count shows it, so the "
            "queue looks empty, and later messages overtake it"
        )
        yield DELAYED_RETRY, why, False


def holds_back(definition: Mapping[str, Any]) -> bool:
    """Returns whether a policy has RabbitMQ delay by itself what comes back to a queue."""
    return str(definition.get(DELAYED_RETRY, _NO_DELAY)) != _NO_DELAY


def hides(queue: FoundQueue) -> bool:
    """Returns whether RabbitMQ holds messages back in a queue, or may do so: no count shows them,
    and they would be deleted with it."""
    return bool(queue.delayed) or holds_back((queue.policy or NO_POLICY).definition)


def against_timeout(
    queue: FoundQueue, limit: float, ahead: int, broker: float | None
) -> Iterator[Change]:
    """Yields whether RabbitMQ may take back what a handler still works on.

    `limit` is its `time_limit` in seconds, infinite if it has none. A message may wait for as many
    tries as `ahead` says. `broker` is the broker's consumer_timeout, None if it is not known.
    """
    timeout, where = _timeout(queue, broker)
    if limit == math.inf:
        yield _short(queue, timeout, "its handlers have no time_limit", where, math.inf, True)
    elif timeout < limit:
        why = f"shorter than its handlers' time_limit of {limit:g} s"
        yield _short(queue, timeout, why, where, ahead * limit, False)
    elif timeout < ahead * limit:
        why = f"a message may wait for {ahead} tries of {limit:g} s"
        yield _short(queue, timeout, why, where, ahead * limit, True)


def _timeout(queue: FoundQueue, broker: float | None) -> tuple[float, str]:
    """Returns the time-out that counts, in seconds, and where it is set."""
    policy = queue.policy or NO_POLICY
    named = f"policy {policy.name}" if policy.name else "a policy"
    set_by = {
        "its argument": (queue.arguments or {}).get("x-consumer-timeout"),
        named: policy.definition.get("consumer-timeout"),
    }
    own = [(value / 1000, where) for where, value in set_by.items() if value is not None]
    if own:
        return min(own)
    return (TIMEOUT, "RabbitMQ's default") if broker is None else (broker, "rabbitmq.conf")


def _short(
    queue: FoundQueue, timeout: float, why: str, where: str, least: float, is_warning: bool
) -> Change:
    enough = "" if least == math.inf else f" to {1000 * least:.0f} at least"
    remedy = (
        f"give the router a time_limit below {timeout:g}"
        if least == math.inf
        else f"set consumer_timeout (milliseconds) in rabbitmq.conf{enough}, or a shorter "
        f"time_limit on the router"
    )
    return Change(
        CORRECT,
        "timeout",
        queue.name,
        f"consumer_timeout is {timeout:g} s ({where}): {why}; RabbitMQ then closes the channel, "
        f"and what it had is delivered again",
        remedy=remedy,
        was=timeout,
        should=None if least == math.inf else least,
        messages=queue.messages or 0,
        is_warning=is_warning,
    )
