"""Lists what a worker does. Each room brings its own duties; add a new one's here."""

from bus.continuity.upkeep import Upkeep
from bus.delivery.duties import Work, handling, projecting, watching
from bus.following.duties import following
from bus.lifecycle.duty import Duty
from bus.recovery.losses import Losses, Resending
from bus.telemetry.facts import measuring
from bus.write.relay import Relay


def duties_of(work: Work) -> list[Duty]:
    """Returns all duties of a worker of these subscriptions."""
    runtime = work.runtime
    relay = Relay(runtime.event_log, runtime.publisher, runtime.control, loops=runtime.loops)
    upkeep = Upkeep(
        runtime.transport,
        lambda: runtime.projected_topology,
        every=runtime.settings.sweep_every,
        part="queues of projections",
    )
    resending = Resending(runtime, Losses(runtime), work.names)
    return [
        *projecting(work),
        *handling(work),
        *following(work),
        relay.duty,
        upkeep.duty,
        resending.duty,
        *watching(work),
        *measuring(work),
    ]
