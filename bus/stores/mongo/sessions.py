"""The sessions in which a process runs its handlers' transactions.

A killed process leaves its transactions' locks standing for a minute and more. So a process records
its sessions in `writers`, says every second that it lives, and ends the sessions of those that have
not said so. To be ended though alive is harmless: the transaction is tried again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bus import ambient
from bus.errors import BusError, OutcomeUnknown, Unavailable
from bus.log import Logger
from bus.loops import Loops
from bus.stores.mongo.client import Client, Database, Session, start_session
from bus.stores.mongo.failures import reading, writing
from bus.tasks import end

BEAT = 1.0
DEAD_AFTER = 4.0

log = Logger("bus.sessions")


class Sessions:
    """Lends sessions, each to one at a time."""

    def __init__(self, client: Client, database: Database, loops: Loops) -> None:
        self._client = client
        self._loops = loops
        self._writers = database["writers"]
        self._name = f"handlers/{ambient.new_id()}"
        self._ids: list[object] = []
        self._free: list[Session] = []
        self._abandoned: list[object] = []
        self._signing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """From now on looks after the sessions of others too, whether it lends any or not."""
        self._watching = self._loops.start(self._watch, "sessions")

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Session]:
        """A session that nobody else uses meanwhile."""
        session = self._free.pop() if self._free else await self._start()
        try:
            yield session
        except (asyncio.CancelledError, Unavailable, OutcomeUnknown):
            # A command of this session may still be under way: it is not lent again, but ended.
            self._abandoned.append(session.session_id["id"])
            raise
        except BaseException:
            self._free.append(session)
            raise
        self._free.append(session)

    async def close(self) -> None:
        """Ends all sessions and signs off. Where that fails, others do it."""
        if self._watching is None:
            return
        await end([self._watching])
        with suppress(BusError):
            await self._end(self._abandoned)
            async with writing():
                await self._writers.delete_one({"_id": self._name})
                for session in self._free:
                    await session.end_session()

    async def _start(self) -> Session:
        async with reading():
            session = await start_session(self._client)
        id = session.session_id["id"]
        self._ids.append(id)
        try:
            await self._sign()
        except BaseException:
            self._ids.remove(id)
            raise
        return session

    async def _watch(self) -> None:
        while True:
            await self._loops.turn("sessions", self._look, None)
            await asyncio.sleep(BEAT)

    async def _look(self) -> None:
        if self._ids:
            await self._sign()
        await self._end_abandoned()
        await self._end_dead()

    async def _sign(self) -> None:
        """Says, by the server's clock, that this process lives, and which sessions are its own."""
        async with self._signing, writing():
            alive = {"$set": {"sessions": list(self._ids)}, "$currentDate": {"seen": True}}
            await self._writers.update_one({"_id": self._name}, alive, upsert=True)

    async def _end_abandoned(self) -> None:
        abandoned = list(self._abandoned)
        await self._end(abandoned)
        self._abandoned = [id for id in self._abandoned if id not in abandoned]
        self._ids = [id for id in self._ids if id not in abandoned]

    async def _end_dead(self) -> None:
        since = {"$subtract": ["$$NOW", int(DEAD_AFTER * 1000)]}
        silent = {"sessions": {"$exists": True}, "$expr": {"$lt": ["$seen", since]}}
        async with reading():
            dead = await self._writers.find(silent).to_list(None)
        for process in dead:
            log.info("ending the sessions of a process that is silent", process=process["_id"])
            await self._end(process["sessions"])
            async with writing():
                await self._writers.delete_one({"_id": process["_id"], "seen": process["seen"]})

    async def _end(self, ids: list[object]) -> None:
        if ids:
            async with reading():
                command = ("killSessions", [{"id": id} for id in ids])
                await self._client.get_database("admin").command(*command)
