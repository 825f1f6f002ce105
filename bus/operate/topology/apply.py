"""Makes what a service lacks at RabbitMQ, and moves queues that have other properties.

For a user who may declare; nothing is removed but the queues that are made anew.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from bus.assembly.runtime import OnOpenBus, Runtime
from bus.errors import ConfigurationError, TopologyMismatch, TransportUnavailable
from bus.operate.topology.plan import alone_of, apart_of, declared_topology, found_at, planned
from bus.operate.topology.rename import Renamed, checked, rename
from bus.recovery.declared import forget_declared, note_declared
from bus.recovery.losses import Losses
from bus.transports.rabbitmq.declare import delete_exchanges
from bus.transports.rabbitmq.declaring import QueuesDiffer
from bus.transports.rabbitmq.moving.anew import PATIENCE, Moved, move
from bus.transports.rabbitmq.planning.change import CHANGE, MAKE
from bus.transports.rabbitmq.planning.diff import is_other
from bus.transports.rabbitmq.planning.found import Found
from bus.transports.rabbitmq.planning.policies import hides
from bus.transports.rabbitmq.planning.wanted import WantedQueue, wanted_queues
from bus.transports.topology import delay_queues


class Applied(NamedTuple):
    """What was done: `made` counts the lines of the plan that were made; `moved` says what came of
    each queue that was made anew, `renamed` of each subscription, by its old name."""

    made: int
    moved: dict[str, Moved]
    renamed: Mapping[str, Renamed] = MappingProxyType({})


class Applying(OnOpenBus):
    """Carries out the plan for a bus, which must be open, but for what `prune` removes.

    Raises: ConfigurationError if this user declares nothing (BUS_DECLARE=never), or an exchange has
    another type; TransportUnavailable, as if somebody still consumes a queue that must be moved, or
    applies or prunes for the same service. It may then be called again, and goes on.
    """

    async def apply(
        self,
        *,
        patience: float = PATIENCE,
        renames: Mapping[str, str] = {},
        exchanges: bool = False,
    ) -> Applied:
        """Makes what is missing, then moves one queue at a time. For `patience` (seconds), delayed
        messages may come back to a queue before it is made anew. `renames` has the new names of
        subscriptions, by their old ones, whose messages are brought to the new queue. With
        `exchanges`, the service's own exchanges of another type are deleted and made anew."""
        runtime = self._runtime
        for old, new in renames.items():
            checked(runtime, old, new)
        if runtime.settings.declare == "never":
            raise ConfigurationError(
                "BUS_DECLARE=never makes nothing at RabbitMQ: apply as a user who may declare, "
                "with BUS_DECLARE=always"
            )
        work = partial(self._apply, patience, renames, exchanges)
        return await alone_of(runtime, work, "applying")

    async def _apply(self, patience: float, renames: Mapping[str, str], exchanges: bool) -> Applied:
        runtime = self._runtime
        found = await found_at(runtime)
        changes = planned(runtime, found).changes
        spoilt = [change for change in changes if change[:2] == (CHANGE, "exchange")]
        for change in spoilt:
            if not exchanges or not change.name.startswith(f"{runtime.service}."):
                raise TopologyMismatch(f"exchange {change.name}: {change.why}; {change.remedy}")
        moving = [queue for queue in wanted_queues(runtime.topology) if _must_move(queue, found)]
        former = [f"{runtime.service}.{old}" for old in renames]
        for name in [*(queue.name for queue in moving), *former]:
            _require_no_stream(name, found)
            _require_all_in_sight(name, found)
        await _delete_exchanges(runtime, [change.name for change in spoilt])
        await _make(runtime, {queue.name for queue in moving})
        moved = {queue.name: await _move(runtime, queue, found, patience) for queue in moving}
        await forget_declared(runtime, found.queues)
        renamed = {old: await rename(runtime, found, old, new) for old, new in renames.items()}
        return Applied(sum(change.sign == MAKE for change in changes), moved, renamed)


async def _delete_exchanges(runtime: Runtime, names: Sequence[str]) -> None:
    """Deletes exchanges, which are made anew next: until then events wait in the log, and queues of
    handlers are noted as lost, so that a worker sends again what they missed."""
    if names:
        await apart_of(runtime, partial(delete_exchanges, names=names), "deleting exchanges")


async def _make(runtime: Runtime, moving: Collection[str]) -> None:
    """Declares everything, but for queues that are moved next. Queues of handlers that had to be
    made are noted, so that a worker sends again what they missed."""
    losses = Losses(runtime)
    await note_declared(runtime)
    try:
        await runtime.transport.declare(declared_topology(runtime))
    except QueuesDiffer as mismatch:
        for why in (why for queue, why in mismatch.whys.items() if queue not in moving):
            raise TopologyMismatch(why) from None
    await losses.note_anew()


def _must_move(wanted: WantedQueue, found: Found) -> bool:
    queue = found.queues.get(wanted.name)
    return wanted.aside.name in found.queues or (queue is not None and is_other(wanted, queue))


def _require_no_stream(name: str, found: Found) -> None:
    """Raises: ConfigurationError, because what is in a stream cannot be taken from it."""
    queue = found.queues.get(name)
    if queue is None:
        return
    if (queue.arguments or {}).get("x-queue-type") == "stream" or "'stream'" in queue.refusal:
        raise ConfigurationError(
            f"RabbitMQ: {name} is a stream, from which nothing can be moved, because reading it "
            f"takes nothing out. If nobody needs it, delete it (rabbitmqctl delete_queue {name}), "
            f"and apply again; otherwise give the router another name"
        )


def _require_all_in_sight(name: str, found: Found) -> None:
    """Raises: TransportUnavailable, if RabbitMQ holds messages back or may do so: nobody can take
    them from the queue, and they would be deleted with it."""
    queue = found.queues.get(name)
    if queue is None or not hides(queue):
        return
    raise TransportUnavailable(
        f"RabbitMQ: {name} must be emptied and deleted, and what RabbitMQ holds back in it by its "
        f"own delayed retry would be lost (seen: {queue.delayed}). Take delayed-retry-type out of "
        f"the policies on it, wait until what is held back came back, and apply again"
    )


async def _move(runtime: Runtime, wanted: WantedQueue, found: Found, patience: float) -> Moved:
    queue = found.queues.get(wanted.name)
    work = partial(
        move,
        wanted=wanted,
        is_other=queue is not None and is_other(wanted, queue),
        bindings=(queue and queue.bindings) or (),
        delays=_delays_to(runtime, wanted),
        patience=patience,
    )
    return await apart_of(runtime, work, f"moving {wanted.name}", timeout=None)


def _delays_to(runtime: Runtime, wanted: WantedQueue) -> list[str]:
    """Returns the queues from which messages come back to this one by its name."""
    if wanted.own_exchange:
        return []
    return delay_queues(runtime.service)
