"""The plan: what a topology wants against what was found. No I/O."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bus.transports.rabbitmq.planning.change import CHANGE, MAKE, PRUNE, UNSEEN, Change
from bus.transports.rabbitmq.planning.found import Found, FoundExchange, FoundQueue
from bus.transports.rabbitmq.planning.policies import against_policy, against_timeout
from bus.transports.rabbitmq.planning.wanted import WantedQueue, wanted_exchanges, wanted_queues
from bus.transports.topology import Topology

CLASSIC = "classic"
"""The type of a queue that was declared without one."""

APPLY = "bus topology apply APP"
PRUNES = "bus topology prune APP"


def changes(
    topology: Topology,
    found: Found,
    *,
    limits: Mapping[str, float] | None = None,
    ahead: int = 1,
    kept: Collection[str] = (),
    divided: Mapping[str, tuple[int, int]] = {},
    former: Collection[str] = (),
) -> list[Change]:
    """Returns what differs, in the order in which it can be put right.

    `limits` are the time limits of handlers in seconds, by queue; as many as `ahead` may be worked
    off before a message that is at hand. `kept` are queues that nobody declares now, but that
    belong to a collection of a projection, or whose worker deletes them soon. `divided` has the
    number of partitions that a projection has, and is to have; `former` are the queues of former
    numbers, which a worker deletes.
    """
    queues = wanted_queues(topology)
    return [
        *_exchanges(topology.service, wanted_exchanges(topology), found),
        *(change for queue in queues for change in _queue(queue, found)),
        *(_partitions(name, *counts) for name, counts in divided.items()),
        *(change for queue in queues for change in _policies(queue, found)),
        *_timeouts(limits or {}, ahead, found),
        *_orphans(topology, queues, kept, found),
        *_former(former, queues, found),
        *(Change(UNSEEN, "", what, "not looked at", remedy=how, is_warning=True)
          for what, how in found.unseen),
    ]  # fmt: skip


def _exchanges(service: str, wanted: Mapping[str, str], found: Found) -> Iterator[Change]:
    for name, kind in wanted.items():
        exchange = found.exchanges.get(name)
        if exchange is None:
            yield Change(
                MAKE, "exchange", name, f"there is no {kind} exchange", remedy=APPLY, should=kind
            )
        elif exchange.refusal:
            yield _exchange_change(service, name, exchange.refusal, None, kind)
        elif exchange.kind is not None:
            yield from _other_exchange(service, exchange, kind)


def _other_exchange(service: str, exchange: FoundExchange, kind: str) -> Iterator[Change]:
    was = {
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto-delete": exchange.auto_delete,
        "internal": exchange.internal,
        **exchange.arguments,
    }
    should = {"type": kind, "durable": True, "auto-delete": False, "internal": False}
    if differing := _differing(was, should):
        why = _in_words(was, should, differing)
        was, should = _only(was, differing), _only(should, differing)
        yield _exchange_change(service, exchange.name, why, was, should)


def _exchange_change(service: str, name: str, why: str, was: Any, should: Any) -> Change:
    owner = name.rpartition(".")[0]
    remedy = (
        f"run {APPLY} --exchanges, which deletes it and makes it anew; events wait in the log "
        f"meanwhile, and handlers may get some twice"
    )
    if not name.startswith(f"{service}."):
        remedy = f"it is that of {owner}: let its user run {APPLY} --exchanges for that service"
    return Change(CHANGE, "exchange", name, why, remedy=remedy, was=was, should=should)


def _queue(wanted: WantedQueue, found: Found) -> Iterator[Change]:
    queue = found.queues.get(wanted.name)
    if aside := found.queues.get(wanted.aside.name):
        yield _unfinished(wanted, aside)
    if queue is None:
        yield Change(MAKE, "queue", wanted.name, "there is no such queue", remedy=APPLY)
        return
    yield from _other_queue(wanted, queue)
    yield from _bindings(wanted, queue, found)


def _unfinished(wanted: WantedQueue, aside: FoundQueue) -> Change:
    why = f"it was being moved, and {aside.name} holds messages of it"
    remedy = f"run {APPLY}: it goes on where that ended"
    return Change(CHANGE, "queue", wanted.name, why, remedy=remedy, messages=aside.messages or 0)


def is_other(wanted: WantedQueue, queue: FoundQueue) -> bool:
    """Returns whether a queue has other properties than it should have, as far as can be seen."""
    return any(_other_queue(wanted, queue))


def _other_queue(wanted: WantedQueue, queue: FoundQueue) -> Iterator[Change]:
    if queue.refusal:
        yield _queue_change(queue, queue.refusal, None, dict(wanted.arguments))
    if queue.arguments is None:
        return
    was = {
        "durable": queue.durable,
        "auto-delete": queue.auto_delete,
        "x-queue-type": CLASSIC,
        **queue.arguments,
    }
    should = {"durable": True, "auto-delete": False, **wanted.arguments}
    if differing := _differing(was, should):
        why = _in_words(was, should, differing)
        yield _queue_change(queue, why, _only(was, differing), _only(should, differing))


def _queue_change(queue: FoundQueue, why: str, was: Any, should: Any) -> Change:
    remedy = f"stop what consumes it, and run {APPLY}: it moves the messages"
    return Change(
        CHANGE,
        "queue",
        queue.name,
        why,
        remedy=remedy,
        was=was,
        should=should,
        messages=queue.messages or 0,
    )


def _bindings(wanted: WantedQueue, queue: FoundQueue, found: Found) -> Iterator[Change]:
    """Bindings to an exchange that is missing are made with it, and need no line of their own."""
    if queue.bindings is None:
        return
    should = {binding for binding in wanted.bindings if binding[0] in found.exchanges}
    lacks, spare = should - queue.bindings, queue.bindings - {*wanted.bindings}
    for exchange, topics in _by_exchange(lacks):
        why = f"is not bound to {exchange}: {_listed(topics)}"
        yield Change(MAKE, "binding", wanted.name, why, remedy=APPLY, should={exchange: topics})
    for exchange, topics in _by_exchange(spare):
        why = f"nobody needs its binding to {exchange}: {_listed(topics)}"
        yield Change(PRUNE, "binding", wanted.name, why, remedy=PRUNES, was={exchange: topics})


def _policies(wanted: WantedQueue, found: Found) -> Iterator[Change]:
    if queue := found.queues.get(wanted.name):
        yield from against_policy(wanted, queue)


def _timeouts(limits: Mapping[str, float], ahead: int, found: Found) -> Iterator[Change]:
    for name, limit in limits.items():
        queue = found.queues.get(name, FoundQueue(name))
        yield from against_timeout(queue, limit, ahead, found.timeout)


def _orphans(
    topology: Topology, queues: Sequence[WantedQueue], kept: Collection[str], found: Found
) -> Iterator[Change]:
    own = f"{topology.service}."
    known = {name for queue in queues for name in (queue.name, queue.aside.name)} | {*kept}
    for name, queue in sorted(found.queues.items()):
        if name.startswith(own) and name not in known:
            yield _orphan(queue, _renamed(topology, queue, queues, found))
    for name in sorted(found.exchanges):
        if name.startswith(own) and name not in wanted_exchanges(topology):
            yield Change(PRUNE, "exchange", name, "nobody declares it", remedy=PRUNES)


def _partitions(name: str, was: int, should: int) -> Change:
    return Change(
        CHANGE,
        "partitions",
        name,
        f"the projection has {was}, and this release {should}",
        remedy="start a worker of this release: it brings the documents up to date from the log, "
        "and deletes the former queues once nobody consumes them",
        was=was,
        should=should,
        is_warning=True,
    )


def _former(
    names: Collection[str], queues: Sequence[WantedQueue], found: Found
) -> Iterator[Change]:
    for name in sorted({*names} - {queue.name for queue in queues}):
        if queue := found.queues.get(name):
            yield Change(
                PRUNE,
                "queue",
                name,
                "of a former number of partitions; the log has what is in it",
                remedy="leave it to a worker, which deletes it once nobody consumes it",
                messages=queue.messages or 0,
                is_warning=True,
            )


def _renamed(
    topology: Topology, queue: FoundQueue, queues: Sequence[WantedQueue], found: Found
) -> str:
    """Returns the queue of handlers that this may have become, or "": one with the same bindings,
    and rather one that is not there yet."""
    several = {q.name for q in topology.queues if not q.single_consumer and q.address == "events"}
    bindings = {*(queue.bindings or ())}
    alike = [
        wanted.name
        for wanted in queues
        if wanted.name in several and wanted.bindings and {*wanted.bindings} == bindings
    ]
    return min(alike, key=lambda name: name in found.queues, default="")


def _orphan(queue: FoundQueue, renamed: str) -> Change:
    remedy = f"{PRUNES} deletes it; if anything is in it, only --with-messages"
    why = "nobody declares it: a router that was renamed, or a projection that was dropped?"
    if queue.messages:
        remedy = f"{PRUNES} --with-messages deletes it; the log has the events that are in it"
    if renamed:
        names = "=".join(name.partition(".")[2] for name in (queue.name, renamed))
        why = f"nobody declares it, and {renamed} has the same bindings: was it renamed?"
        remedy = f"{APPLY} --rename {names} brings all to the new name; otherwise {remedy}"
    if queue.consumers:
        why = f"not declared here, but consumed ({queue.consumers}): by another release?"
        remedy = f"stop what consumes it; then {remedy}"
    bound = dict(_by_exchange(queue.bindings or ()))
    messages = queue.messages or 0
    return Change(PRUNE, "queue", queue.name, why, remedy=remedy, was=bound, messages=messages)


def _differing(was: Mapping[str, Any], should: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*should, *was])
    return [key for key in keys if was.get(key) != should.get(key)]


def _only(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: values.get(key) for key in keys}


def _in_words(was: Mapping[str, Any], should: Mapping[str, Any], keys: Iterable[str]) -> str:
    return "; ".join(f"{key} is {_word(was, key)}, not {_word(should, key)}" for key in keys)


def _word(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "unset" if value is None else repr(value) if value == "" else str(value)


def _by_exchange(bindings: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    topics: dict[str, list[str]] = {}
    for exchange, topic in sorted(bindings):
        topics.setdefault(exchange, []).append(topic)
    return list(topics.items())


def _listed(topics: list[str]) -> str:
    more = f" and {len(topics) - 4} more" if len(topics) > 5 else ""
    return ", ".join(topics[: 4 if more else 5]) + more
