"""A small service in two releases. The second one adds an event, a command, a schema, a field."""

from typing import Any

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Envelope,
    Event,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
    Update,
)


class Ring(Command):
    bell_id: str


class LouderRing(Command, name="Ring"):
    """As the second release sends it."""

    bell_id: str
    loudness: int = 1


class ShapedRing(Command, name="Ring", schema=2):
    bell_id: str


class Chime(Command):
    bell_id: str


class Rang(Event):
    pass


class RangLouder(Event, name="Rang", schema=2):
    loudness: int = 1


class Chimed(Event):
    pass


class OldBell(Aggregate, category="bell"):
    times: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Rang():
                self.times += 1


class Bell(Aggregate, category="bell"):
    times: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case RangLouder():
                self.times += event.loudness
            case Chimed():
                self.times += 10


class BellView(BaseModel):
    id: str
    times: int = 0


class GetBell(Query[BellView | None]):
    bell_id: str


Heard = list[tuple[str, str, int]]
"""Which event of which stream was handled, and its version."""


def first(settings: Settings, service: str, heard: Heard, *, version: int = 1) -> Bus:
    """It rings, by schema 1."""
    bells, listening = Router("bells"), Router("listening")
    views = Projection("views", of=[OldBell], view=BellView, version=version)

    @bells.command
    async def ring(command: Ring, repository: Repository[OldBell]) -> int:
        bell = await repository.find(command.bell_id) or OldBell(command.bell_id)
        if not bell.version:
            repository.add(bell)
        bell.record(Rang())
        return bell.times

    @listening.event
    async def listen(event: Rang, envelope: Envelope) -> None:
        heard.append((event.wire_name, envelope.stream, envelope.version))

    @views.on(Rang)
    def rang(event: Rang) -> Update:
        return {"$inc": {"times": 1}}

    return _bus(service, settings, [bells, listening], [views])


def second(
    settings: Settings, service: str, heard: Heard, *, version: int = 1, partitions: int = 1
) -> Bus:
    """It chimes too, and rings by schema 2."""
    bells, listening = Router("bells"), Router("listening")
    views = Projection("views", of=[Bell], view=BellView, version=version, partitions=partitions)

    async def of(repository: Repository[Bell], id: str) -> Bell:
        bell = await repository.find(id) or Bell(id)
        if not bell.version:
            repository.add(bell)
        return bell

    @bells.command
    async def ring(command: LouderRing, repository: Repository[Bell]) -> int:
        bell = await of(repository, command.bell_id)
        bell.record(RangLouder(loudness=command.loudness))
        return bell.times

    @bells.command
    async def chime(command: Chime, repository: Repository[Bell]) -> int:
        bell = await of(repository, command.bell_id)
        bell.record(Chimed())
        return bell.times

    @listening.event
    async def listen(event: RangLouder | Chimed, envelope: Envelope) -> None:
        heard.append((event.wire_name, envelope.stream, envelope.version))

    @views.on(RangLouder)
    def rang(event: RangLouder) -> Update:
        return {"$inc": {"times": event.loudness}}

    @views.on(Chimed)
    def chimed(event: Chimed) -> Update:
        return {"$inc": {"times": 10}}

    return _bus(service, settings, [bells, listening], [views])


def _bus(
    service: str, settings: Settings, routers: list[Router], projections: list[Projection[Any]]
) -> Bus:
    queries = Router("queries")

    @queries.query
    async def get_bell(query: GetBell, documents: Documents[BellView]) -> BellView | None:
        return await documents.get(query.bell_id)

    return Bus(service, routers=[*routers, queries], projections=projections, settings=settings)
