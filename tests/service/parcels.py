"""A small service whose handlers fail until they are mended: two routers and a projection follow
one event."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Envelope,
    Event,
    Projection,
    Query,
    Reject,
    Repository,
    Router,
    Settings,
    Update,
)
from bus.common import clock
from bus.signing import SIGNATURE
from bus.transports.base import Frame
from bus.transports.topology import event_topic


class Post(Command):
    parcel_id: str
    weight: int
    note: str = ""


class ParcelView(BaseModel):
    id: str
    weight: int


class GetParcel(Query[ParcelView | None]):
    parcel_id: str


class Office:
    """What was done for which stream, and whether the handlers are mended by now."""

    def __init__(self) -> None:
        self.mended = False
        self.excuse = "no label"
        self.labelled: list[str] = []
        self.weighed: list[str] = []


def build(settings: Settings, office: Office, service: str) -> Bus:
    """The bus of the parcels. `labels` rejects what is noted "unlabelled" or weighs less than 0;
    the projection fails on what is noted "unprojectable"; nobody can read the weight "many"."""
    commands, labels, scales = Router("desk"), Router("labels"), Router("scales")

    def read(weight: Any) -> Any:
        return 1000 if office.mended and weight == "many" else weight

    class Posted(Event):
        weight: Annotated[int, BeforeValidator(read)]
        note: str = ""

    class Parcel(Aggregate, events=[Posted]):
        pass

    parcels = Projection("parcels", of=[Parcel], view=ParcelView)

    @commands.command
    async def post(command: Post, repository: Repository[Parcel]) -> None:
        parcel = Parcel(command.parcel_id)
        parcel.record(Posted(weight=command.weight, note=command.note))
        repository.add(parcel)

    @commands.query
    async def get(query: GetParcel, documents: Documents[ParcelView]) -> ParcelView | None:
        return await documents.get(query.parcel_id)

    @labels.event
    async def label(event: Posted, envelope: Envelope, office: Office) -> None:
        if event.weight < 0 or (event.note == "unlabelled" and not office.mended):
            raise Reject(office.excuse)
        office.labelled.append(envelope.stream)

    @scales.event
    async def weigh(event: Posted, envelope: Envelope, office: Office) -> None:
        office.weighed.append(envelope.stream)

    @parcels.on(Posted)
    def posted(event: Posted) -> Update:
        if event.note == "unprojectable" and not office.mended:
            raise ValueError("cannot be projected")
        return {"$set": {"weight": event.weight}}

    return Bus(
        service,
        routers=[commands, labels, scales],
        projections=[parcels],
        settings=settings,
        provide={Office: office},
    )


def signed(bus: Bus, frame: Frame) -> Frame:
    """A frame as a process of this service would send it."""
    signature = bus.runtime.signing.sign(frame)
    return frame._replace(headers={**frame.headers, SIGNATURE: signature})


def stray(body: bytes, stream: str, version: int = 1, **headers: str | int) -> Frame:
    """An event as somebody might publish it past the log."""
    full = {"stream": stream, "version": version, "schema": 1, **headers}
    topic = event_topic("parcel", "Posted", stream)
    return Frame("events", topic, clock.new_id(), "Posted", body, clock.now(), "c", full)
