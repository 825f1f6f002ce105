"""Removes queues, bindings and exchanges of a service that nobody declares any more."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bus.assembly.runtime import OnOpenBus
from bus.errors import ConfigurationError
from bus.operate.topology.plan import alone_of, apart_of, found_at, planned
from bus.transports.rabbitmq.planning.change import PRUNE, Change
from bus.transports.rabbitmq.planning.policies import hides
from bus.transports.rabbitmq.planning.pruning import Kept, remove
from bus.transports.topology import delay_queues


class Pruned(NamedTuple):
    """What was removed, and what stayed, each with why; and how many messages were `gone` with a
    queue that was removed with any, be it that they came at the last moment."""

    removed: tuple[Change, ...]
    kept: tuple[Kept, ...]
    gone: Mapping[str, int] = MappingProxyType({})


def _is_over(change: Change) -> bool:
    """Returns whether nobody needs it, and no worker looks after it."""
    return change.sign == PRUNE and not change.is_warning


class Pruning(OnOpenBus):
    """Removes what nobody declares, of a bus that must be open.

    Raises: ConfigurationError where only AMQP can be asked, which does not list what there is, and
    no queue is left that was noted when it was declared; TransportUnavailable.
    """

    async def prunable(self, *, definitions: Path | None = None) -> list[Change]:
        """Returns what would be removed. `definitions` are those of `Planning.plan`."""
        found = await found_at(self._runtime, definitions)
        changes = [each for each in planned(self._runtime, found).changes if _is_over(each)]
        if not changes and not found.is_whole:
            raise ConfigurationError(
                "AMQP does not tell what is there and declared by nobody, and no queue is left "
                "that this service noted when it declared it: set BUS_MANAGEMENT_URL to RabbitMQ's "
                "management API (rabbitmq-plugins enable rabbitmq_management), or give "
                "--definitions"
            )
        return changes

    async def prune(self, changes: Sequence[Change], *, with_messages: bool = False) -> Pruned:
        """Removes these, but a queue that is consumed; and one with messages in it, or with some
        that RabbitMQ itself holds back, only `with_messages`."""
        runtime = self._runtime
        found = await found_at(runtime)
        work = partial(
            remove,
            changes=changes,
            with_messages=with_messages,
            delays=delay_queues(runtime.service),
            hiding=[name for name, queue in found.queues.items() if hides(queue)],
        )
        held = partial(apart_of, runtime, work, "pruning", timeout=None)
        kept, gone = await alone_of(runtime, held, "pruning")
        stay = [each.change for each in kept]
        removed = tuple(change for change in changes if change not in stay)
        return Pruned(removed, tuple(kept), gone)
