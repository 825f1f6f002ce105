"""Bytes that are no text go all the way, declared as their refusal says: in memory and for real."""

from pydantic import BaseModel, ConfigDict

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
    Update,
    Worker,
)
from tests.waiting import until

BYTES = bytes(range(256))


class InBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    seal: bytes


class Close(InBase64, Command):
    pass


class Closed(InBase64, Event):
    more: list[InBase64]


class Letter(Aggregate):
    seal: bytes = b""

    def apply(self, event: Event) -> None:
        match event:
            case Closed():
                self.seal = event.more[0].seal


class LetterView(BaseModel):
    seal: bytes


class GetLetter(Query[LetterView | None]):
    pass


async def test_bytes_go_all_the_way(settings: Settings, unique: str) -> None:
    router, letters = Router("letters"), Projection("letter_views", of=[Letter], view=LetterView)
    heard: list[Closed] = []

    @router.command
    async def close(command: Close, repository: Repository[Letter]) -> InBase64:
        letter = await repository.find("a") or Letter("a")
        letter.record(Closed(seal=command.seal, more=[InBase64(seal=command.seal)]))
        if letter.version == 1:
            repository.add(letter)
        return InBase64(seal=letter.seal)

    @router.event
    async def hear(event: Closed) -> None:
        heard.append(event)

    @router.query
    async def get(query: GetLetter, documents: Documents[LetterView]) -> LetterView | None:
        return await documents.get("a")

    @letters.on(Closed)
    def closed(event: Closed) -> Update:
        return {"$set": {"seal": event.seal}}

    bus = Bus(unique, routers=[router], projections=[letters], settings=settings)
    async with bus, Worker(bus):
        await bus.execute(Close(seal=b""), id="first")
        for _ in range(2):
            receipt = await bus.request(Close(seal=BYTES), id="second")
            assert (receipt.result, dict(receipt.versions)) == (
                InBase64(seal=BYTES),
                {"letter-a": 2},
            )
        assert await bus.query(GetLetter(), after=receipt) == LetterView(seal=BYTES)
        whole = Closed(seal=BYTES, more=[InBase64(seal=BYTES)])
        await until(lambda: whole in heard, "the event was heard")
        found = await Repository(Letter, bus.runtime.event_log).get("a")
        assert found.seal == BYTES
