"""The service whose events are projected: one event a commit, about 500 bytes each.

Its read collection comes in two kinds. "documents": one document for each stream, which holds the
version. "checkpoints": documents fed by several streams, whose versions stand in `checkpoints`.
"""

from typing import Any

from pydantic import BaseModel

from bench.side import Arguments
from bus import Aggregate, Bus, Event, Increment, Projection, Settings, Sink, Update, Upsert

NOTE = "x" * 400


class Deposited(Event):
    account_id: str
    owner: str
    number: int
    note: str


class Account(Aggregate, events=[Deposited]): ...


class AccountView(BaseModel):
    events: int
    note: str


def projection(kind: str, partitions: int) -> Projection[Any]:
    views = Projection("views", of=[Account], view=AccountView, partitions=partitions)
    if kind == "documents":

        @views.on(Deposited)
        def deposited(event: Deposited) -> Update:
            return {"$set": {"events": event.number, "owner": event.owner, "note": event.note}}

    else:

        @views.on(Deposited, key=lambda event: event.owner)
        def deposited_by_owner(event: Deposited) -> Update:
            return {"$inc": {"events": 1}, "$set": {"note": event.note}}

    return views


def kept_by(sink: Sink, kind: str) -> Projection[Any]:
    """The same in another technology."""
    views: Projection[Any] = Projection("views", of=[Account], sink=sink)
    if kind == "documents":

        @views.on(Deposited)
        def deposited(event: Deposited) -> Upsert:
            return Upsert(events=event.number, owner=event.owner, note=event.note)

    else:

        @views.on(Deposited, key=lambda event: event.owner)
        def deposited_by_owner(event: Deposited) -> list[Increment | Upsert]:
            return [Increment(events=1), Upsert(note=event.note)]

    return views


def build(arguments: Arguments) -> Bus:
    """The service; with `without_views`, before it had a projection."""
    views = projection(arguments["kind"], arguments["partitions"])
    projections = [] if arguments.get("without_views") else [views]
    return Bus(arguments["service"], projections=projections, settings=Settings())
