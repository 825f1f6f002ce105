"""A bell tower, for the tests of alerts: `bus worker tests.fault.tower:build` does what is asked of
it by files, whose names say what is the matter, until they are removed."""

import asyncio
import os
import time
from pathlib import Path

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Event,
    Projection,
    Repository,
    RetryPolicy,
    Router,
    Settings,
    Update,
)

SERVICE = "tower"
FOLDER = "TOWER_FOLDER"
"""The variable that names the folder of these files."""

COMMANDS_FAIL = "commands fail"
COMMANDS_SLOW = "commands are slow"
COMMANDS_MEET = "commands meet on a stream"
CHIMES_FAIL = "handlers fail"
CHIMES_SLOW = "handlers are slow"
CHIMES_BLOCK = "handlers block the loop"
BELLS_FAIL = "the projection fails"
SUMS_SLOW = "the other projection is slow"

ONE_MORE = RetryPolicy(tries=2, pause=0.02, delays=())


class Ring(Command):
    bell: str


class Rung(Event):
    pass


class Bell(Aggregate, events=[Rung]):
    pass


class BellView(BaseModel):
    id: str
    times: int = 0


class Sum(BaseModel):
    id: str
    times: int = 0


def build(settings: Settings) -> Bus:
    ringing = Router("ringing", retry=ONE_MORE)
    chimes = Router("chimes", concurrency=2, retry=ONE_MORE)
    bells = Projection("bells", of=[Bell], view=BellView)
    sums = Projection("sums", of=[Bell], view=Sum)

    @ringing.command
    async def ring(command: Ring, repository: Repository[Bell]) -> None:
        bell = await repository.find(command.bell)
        if bell is None:
            repository.add(bell := Bell(command.bell))
        if matters(COMMANDS_FAIL):
            raise RuntimeError("the rope is torn")
        await asyncio.sleep(1.5 if matters(COMMANDS_SLOW) else 0)
        await asyncio.sleep(0.1 if matters(COMMANDS_MEET) else 0)
        bell.record(Rung())

    @chimes.event
    async def chime(event: Rung) -> None:
        if matters(CHIMES_FAIL):
            raise RuntimeError("the clapper is stuck")
        if matters(CHIMES_BLOCK):
            time.sleep(1.4)  # noqa: ASYNC251 (what no handler should do)
        await asyncio.sleep(0.5 if matters(CHIMES_SLOW) else 0)

    @bells.on(Rung)
    def rung(event: Rung) -> Update:
        if matters(BELLS_FAIL):
            raise ValueError("no such bell")
        return {"$inc": {"times": 1}}

    @sums.on(Rung)
    async def counted(event: Rung, documents: Documents[Sum]) -> None:
        await asyncio.sleep(0.5 if matters(SUMS_SLOW) else 0)
        await documents.update("all", {"$inc": {"times": 1}})

    return Bus(SERVICE, routers=[ringing, chimes], projections=[bells, sums], settings=settings)


def matters(what: str) -> bool:
    return (Path(os.environ[FOLDER]) / what).exists()
