"""A service whose aggregate is stored by its events in its first release, and by its state in
others. All of them share one log."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Event,
    Outbox,
    Projection,
    Repository,
    Router,
    Session,
    Settings,
    Update,
    default_backend,
)


class Fill(Command):
    vacancy_id: str
    amount: int = 1


class Close(Command):
    vacancy_id: str


class CloseIn(Command):
    city: str


class Move(Command):
    """Takes from one vacancy what another one gets, and notes it in an aggregate by events."""

    source: str
    target: str
    amount: int
    fails: bool = False


class Filled(Event):
    amount: int
    city: str = "Ulm"


class Closed(Event):
    pass


class Noted(Event):
    text: str


class Register(Aggregate):
    """Is stored by its events in every release."""

    notes: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Noted():
                self.notes += 1


class VacancyView(BaseModel):
    filled: int = 0
    events: int = 0


class Failed(Exception):
    """A domain error."""


class Release(NamedTuple):
    """What a release has: its aggregate, and what builds its bus."""

    vacancy: type[Aggregate]
    build: Callable[..., Bus]


def release(**options: Any) -> Release:
    """Returns a release whose aggregate is stored as `options` say."""

    class Vacancy(Aggregate, **options):
        filled: int = 0
        status: str = "open"
        city: str = ""

        def apply(self, event: Event) -> None:
            match event:
                case Filled():
                    self.filled += event.amount
                    self.city = event.city
                case Closed():
                    self.status = "closed"

    vacancies = Router("vacancies")

    async def one(all: Repository[Any], id: str) -> Any:
        found = await all.find(id)
        if found is None:
            found = Vacancy(id)
            all.add(found)
        return found

    @vacancies.command
    async def fill(command: Fill, all: Repository[Vacancy]) -> int:
        vacancy = await one(all, command.vacancy_id)
        vacancy.record(Filled(amount=command.amount))
        return int(vacancy.filled)

    @vacancies.command
    async def close(command: Close, all: Repository[Vacancy]) -> None:
        vacancy = await all.get(command.vacancy_id)
        if vacancy.status == "open":
            vacancy.record(Closed())

    @vacancies.command
    async def close_in(command: CloseIn, all: Repository[Vacancy]) -> list[str]:
        found: Any = await all.find(city=command.city, status="open")
        for vacancy in found:
            vacancy.record(Closed())
        return [vacancy.id for vacancy in found]

    @vacancies.command
    async def move(
        command: Move, all: Repository[Vacancy], registers: Repository[Register], outbox: Outbox
    ) -> None:
        source, target = await one(all, command.source), await one(all, command.target)
        source.record(Filled(amount=-command.amount))
        target.record(Filled(amount=command.amount))
        register = await registers.find("all")
        if register is None:
            register = Register("all")
            registers.add(register)
        register.record(Noted(text=command.source))
        outbox.send(Fill(vacancy_id="sent", amount=command.amount))
        if command.fails:
            raise Failed

    notes = Router("notes")

    @notes.event
    async def on_closed(event: Closed, all: Repository[Vacancy], session: Session) -> None:
        await session.documents("closings").update("all", {"$inc": {"count": 1}})
        vacancy = await one(all, "closings")
        vacancy.record(Filled(amount=1))

    views = Projection("vacancies_seen", of=[Vacancy], view=VacancyView)

    @views.on(Filled)
    def seen(event: Filled) -> Update:
        return {"$inc": {"filled": event.amount, "events": 1}}

    @views.on(Closed)
    def shut(event: Closed) -> Update:
        return {"$inc": {"events": 1}}

    def build(settings: Settings, service: str, backend: Any = None) -> Bus:
        return Bus(
            service,
            routers=[vacancies, notes],
            projections=[views],
            settings=settings,
            backend=backend or default_backend(settings),
        )

    return Release(Vacancy, build)


BY_EVENTS = release()
BY_STATE = release(stored="state", indexes=["city", "status"])
BY_STATE_2 = release(stored="state", indexes=["city"], schema=2)


def build_named(settings: Settings) -> Bus:
    """Builds the release and the service that the environment names, for the command line."""
    import os

    release = {"events": BY_EVENTS, "state": BY_STATE, "state2": BY_STATE_2}
    named = release[os.environ.get("VACANCIES_RELEASE", "state")]
    return named.build(settings, os.environ["VACANCIES_SERVICE"])
