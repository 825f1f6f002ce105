"""Brings what a renamed subscription has at the broker, and in the database, to its new name.

A message that comes again is recognised by the subscription's name: by the marks of handlers with a
`Session`, and by the ids of what others record. So the marks are copied, and what the log shows as
handled under the old name is left out.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from bus.assembly.runtime import Runtime, Subscription, event_registry
from bus.codec import DEAD_LETTER
from bus.data.ids import category_of, derived_id
from bus.declare.router import Router
from bus.errors import ConfigurationError
from bus.operate.topology.plan import apart_of, kept_queues
from bus.recovery.losses import Losses
from bus.transports.rabbitmq.connection import RabbitSession
from bus.transports.rabbitmq.moving.renaming import (
    Renaming,
    Waiting,
    bring,
    detach,
    remove_emptied,
    unhandled,
)
from bus.transports.rabbitmq.planning.found import Found
from bus.transports.rabbitmq.planning.wanted import wanted_queues
from bus.transports.topology import delay_queues

MARKS = 1000
"""How many marks are copied at a time."""
T = TypeVar("T")


class Renamed(NamedTuple):
    """What came of a renaming: `messages` and dead `letters` came to the new name; `gone` messages
    were deleted with the old queue, because they came at the last moment. Without `was_there`,
    there was no old queue (any more), and what the database has of it was brought."""

    was_there: bool = False
    messages: int = 0
    letters: int = 0
    gone: int = 0


def checked(runtime: Runtime, old: str, new: str) -> Router:
    """Returns the router that is the new subscription. Raises: ConfigurationError if a renaming
    makes no sense."""
    service = runtime.service
    declared = {subscription.name: subscription for subscription in runtime.declared}
    router = declared[new].of if new in declared else None
    queues = {queue.name for queue in wanted_queues(runtime.topology)} | kept_queues(runtime)
    if old in declared or f"{service}.{old}" in queues:
        raise ConfigurationError(
            f"--rename {old}={new}: this release declares {old}, so it was not renamed; give a "
            f"name that it had in a former release, as `bus topology plan APP` shows it"
        )
    if not isinstance(router, Router):
        raise ConfigurationError(f"--rename {old}={new}: {_why_not(new, declared)}")
    return router


def _why_not(new: str, declared: dict[str, Subscription]) -> str:
    if new not in declared:
        routers = [name for name, each in declared.items() if isinstance(each.of, Router)]
        return f"no router named {new!r} handles events; those that do: {', '.join(routers)}"
    if declared[new].of is None:
        return "queued commands belong to the service, and have had no other name"
    return (
        f"{new} is a projection, whose documents are made of the log: under another name it is "
        f"built anew, and needs nothing that its former queue holds; `bus topology prune APP` "
        f"removes that"
    )


async def rename(runtime: Runtime, found: Found, old: str, new: str) -> Renamed:
    """Brings all of one subscription to its new name, whose queue is there; can be repeated if it
    was killed in the middle.

    Raises: ConfigurationError, TransportUnavailable (as if the old queue is still consumed),
    StoreUnavailable.
    """
    router = checked(runtime, old, new)
    renaming = _renaming(runtime, found, old, new)
    handled = partial(_handled, runtime, router, old)
    was_there = await _on_broker(runtime, partial(detach, renaming=renaming))
    await Losses(runtime).rename(old, new)
    if runtime.dispatcher.lends_sessions:
        await runtime.effects.open()
        await _copy_marks(runtime, old, new)
    if not was_there:  # what the database has of the old name would be left under it
        return Renamed(letters=await _rename_letters(runtime, renaming))
    messages = await _on_broker(runtime, partial(bring, renaming=renaming, handled=handled))
    letters = await _rename_letters(runtime, renaming)
    ending = partial(remove_emptied, renaming=renaming, handled=handled)
    return Renamed(True, messages, letters, await _on_broker(runtime, ending))


def _renaming(runtime: Runtime, found: Found, old: str, new: str) -> Renaming:
    """Where the old queue's bindings cannot be seen, they are taken to be those of the new one."""
    service = runtime.service
    wanted = {queue.name: queue for queue in wanted_queues(runtime.topology)}
    before = found.queues.get(f"{service}.{old}")
    successor = wanted[f"{service}.{new}"]
    bindings = before.bindings if before and before.bindings is not None else ()
    return Renaming(
        old=f"{service}.{old}",
        new=successor.name,
        bindings={*bindings, *successor.bindings},
        delays=delay_queues(service),
        letters=DEAD_LETTER,
    )


async def _on_broker(runtime: Runtime, work: Callable[[RabbitSession], Awaitable[T]]) -> T:
    return await apart_of(runtime, work, "renaming", timeout=None)


async def _handled(
    runtime: Runtime, router: Router, old: str, messages: Sequence[Waiting]
) -> list[bool]:
    """Returns of each message whether the log shows that the old name handled it."""
    known = event_registry(router)
    for message in messages:
        if message.name not in known:
            raise unhandled(f"{runtime.service}.{router.name}", message.name, old)
    ids = [derived_id(_seed(runtime, old, message)) for message in messages]
    held = await runtime.event_log.held(ids)
    return [id in held for id in ids]


def _seed(runtime: Runtime, old: str, message: Waiting) -> str:
    """Returns what the ids derive from of all that a handler stored for an event."""
    owner = runtime.foreign.owners.get(category_of(message.stream))
    identity = f"{owner}/{message.id}" if owner else message.id
    return f"{identity}>{runtime.service}.{old}"


async def _copy_marks(runtime: Runtime, old: str, new: str) -> None:
    """Marks under the new name what is marked under the old one."""
    before, after = f"{runtime.service}.{old}/", f"{runtime.service}.{new}/"
    last, is_over = before, False
    while not is_over:
        marks = await runtime.effects.marks(last, MARKS)
        own = [mark for mark in marks if mark.startswith(before)]
        if own:
            await runtime.effects.remember([f"{after}{mark.removeprefix(before)}" for mark in own])
        is_over = len(own) < MARKS
        last = marks[-1] if marks else last


async def _rename_letters(runtime: Runtime, renaming: Renaming) -> int:
    """Has dead letters come back to the new queue; returns how many there were."""
    control, ids = runtime.control, await runtime.control.dead_letter_ids({"queue": renaming.old})
    for id in ids:
        for letter in await control.dead_letters(1, where={"_id": id}):
            own = {"_id": f"{renaming.new}{id.removeprefix(renaming.old)}", "queue": renaming.new}
            if letter["handler"] == renaming.old:
                own["handler"] = renaming.new
            kept = {key: value for key, value in letter.items() if key not in _BY_THE_STORE}
            await control.add_dead_letter({**kept, **own}, times=letter["seen"])
            await control.remove_dead_letters([id])
    return len(ids)


_BY_THE_STORE = frozenset({"seen", "first_seen", "last_seen"})
