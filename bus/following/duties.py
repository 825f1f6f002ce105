"""What a worker does for services that follow this one, and for those that this one follows."""

from bus.delivery.duties import Work
from bus.delivery.foreign_events import ForeignEvents
from bus.following.monitor import HistoryMonitor
from bus.following.protocol import Asking
from bus.following.receiver import HistoryConsumer
from bus.following.sender import ReplayConsumer
from bus.lifecycle.duty import Duty


def following(work: Work) -> list[Duty]:
    """Returns the duties of sending this service's history, and of receiving others' if any."""
    runtime, give_up = work.runtime, work.give_up
    replay = ReplayConsumer(
        runtime.service, runtime.event_log, runtime.transport, runtime.control, give_up
    )
    if runtime.followed is None:
        return [work.consumers.duty(replay)]
    owners = runtime.history.owners
    asking = Asking(runtime.transport, runtime.service, owners, runtime.signing)
    foreign_events = ForeignEvents(runtime.followed, owners, give_up)
    history = HistoryConsumer(runtime, runtime.followed, foreign_events, asking, give_up)
    return [
        work.consumers.duty(replay),
        work.consumers.duty(history),
        HistoryMonitor(runtime, asking).duty,
    ]
