"""A small service of conversations: a run is started, an event handler has it finished, and where
its note says so, a handler rejects or the projection fails."""

import os

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Outbox,
    Projection,
    Query,
    Reject,
    Repository,
    Router,
    Settings,
    Update,
)


class Start(Command):
    run_id: str
    note: str = ""


class Finish(Command):
    run_id: str
    note: str


class Started(Event):
    run_id: str
    note: str


class Finished(Event):
    note: str


class Run(Aggregate, events=[Started, Finished]):
    pass


class RunView(BaseModel):
    id: str
    is_finished: bool


class GetRun(Query[RunView | None]):
    run_id: str


def build(settings: Settings, service: str) -> Bus:
    """`mails` rejects what was finished with the note "rejected"; the projection fails on what was
    finished with the note "stuck"."""
    runs, finishing, mails = Router("desk"), Router("finishing"), Router("mails")
    views = Projection("runs", of=[Run], view=RunView)

    @runs.command
    async def start(command: Start, repository: Repository[Run]) -> None:
        run = Run(command.run_id)
        run.record(Started(run_id=command.run_id, note=command.note))
        repository.add(run)

    @runs.command
    async def finish(command: Finish, repository: Repository[Run]) -> None:
        (await repository.get(command.run_id)).record(Finished(note=command.note))

    @runs.query
    async def get(query: GetRun, documents: Documents[RunView]) -> RunView | None:
        return await documents.get(query.run_id)

    @finishing.event
    async def have_it_finished(event: Started, outbox: Outbox) -> None:
        outbox.send(Finish(run_id=event.run_id, note=event.note))

    @mails.event
    async def mail(event: Finished) -> None:
        if event.note == "rejected":
            raise Reject("no address")

    @views.on(Started)
    def started(event: Started) -> Update:
        return {"$set": {"is_finished": False}}

    @views.on(Finished)
    def finished(event: Finished) -> Update:
        if event.note == "stuck":
            raise ValueError("cannot be projected")
        return {"$set": {"is_finished": True}}

    routers = [runs, finishing, mails]
    return Bus(service, routers=routers, projections=[views], settings=settings)


def build_named(settings: Settings) -> Bus:
    """As the command line loads it."""
    return build(settings, os.environ["RUNS_SERVICE"])
