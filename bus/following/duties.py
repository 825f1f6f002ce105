"""What a worker does for services that follow this one, and for those that this one follows."""

from collections.abc import Mapping

from bus.delivery.duties import Work
from bus.delivery.foreign_events import ForeignEvents
from bus.following.feeding import Feeding
from bus.following.monitor import HistoryMonitor
from bus.following.protocol import Asking
from bus.following.receiver import HistoryConsumer
from bus.following.sender import ReplayConsumer
from bus.lifecycle.duty import Duty
from bus.transports.feed import Feed


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
    asks = [HistoryMonitor(runtime, asking).duty] if runtime.history.asked else []
    return [
        work.consumers.duty(replay),
        work.consumers.duty(history),
        *asks,
        *(
            Feeding(runtime, runtime.followed, feed, categories, give_up).duty
            for feed, categories in _by_feed(runtime.foreign.feeds).items()
        ),
    ]


def _by_feed(feeds: Mapping[str, Feed]) -> dict[Feed, list[str]]:
    found: dict[Feed, list[str]] = {}
    for category, feed in feeds.items():
        found.setdefault(feed, []).append(category)
    return found
