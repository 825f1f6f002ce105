"""The sessions in which a process runs the transactions of its handlers and its appends.

A killed process leaves its transactions' locks in place for a minute or more. So each process
records its sessions in `writers`, signs there every second, and ends the sessions of processes that
have stopped signing. If it ends those of a live process, no harm is done: the transaction is tried
again.

A session is not returned to the driver while it is recorded: the driver could lend it to others
while another process, which takes it for abandoned, ends it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from bus.common import clock
from bus.common.tasks import end
from bus.data.payload import Document
from bus.errors import BusError
from bus.observe.log import Logger
from bus.observe.loops import Loops
from bus.stores.mongo.client import Client, Database, MongoSession, bounded, settled, start_session
from bus.stores.mongo.failures import reading, writing
from bus.stores.mongo.transactions import may_run_on

BEAT = 1.0
DEAD_AFTER = 4.0

log = Logger("bus.sessions")


class Sessions:
    """Lends sessions, each to one borrower at a time."""

    def __init__(self, client: Client, database: Database, loops: Loops) -> None:
        self._client = client
        self._loops = loops
        self._writers = database["writers"]
        self._name = ""
        self._ids: list[object] = []
        self._free: list[MongoSession] = []
        self._given_out: list[MongoSession] = []
        self._abandoned: list[object] = []
        self._abandons = asyncio.Event()
        self._signing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts to look after sessions, also those of other processes."""
        if self._watching is None:
            # Not in the constructor: processes forked after it would all have the same name.
            self._name = f"sessions/{clock.new_id()}"
            self._watching = self._loops.start(self._watch, "sessions")

    @asynccontextmanager
    async def one(self) -> AsyncIterator[MongoSession]:
        """Lends a session that nobody else uses meanwhile. Raises: PyMongoError."""
        session = self._free.pop() if self._free else await self._start()
        try:
            yield session
        except BaseException as error:
            if may_run_on(error):
                self._abandon(session)
            else:
                await self._take_back(session)
            raise
        await self._take_back(session)

    def give_out(self, session: MongoSession) -> None:
        """Notes that a session's borrower handed it on, and so may use it later."""
        if session not in self._given_out:
            self._given_out.append(session)

    async def _take_back(self, session: MongoSession) -> None:
        if session not in self._given_out:
            self._free.append(session)
            return
        self._given_out.remove(session)
        self._ids.remove(session.session_id["id"])
        await settled(session.end_session())

    async def close(self) -> None:
        """Ends its sessions and signs off. If that fails, other processes do it; they also end
        sessions that are still lent."""
        if self._watching is None:
            return
        watching, self._watching = self._watching, None
        await end([watching])
        free = [session.session_id["id"] for session in self._free]
        self._free.clear()
        with suppress(BusError):
            await end_sessions(self._client, [*free, *self._abandoned])
            if len(self._ids) == len(free) + len(self._abandoned):
                async with writing():
                    await self._writers.delete_one({"_id": self._name})
                self._ids.clear()
                self._abandoned.clear()

    async def _start(self) -> MongoSession:
        """Starts a session, and records it before it is used."""
        session = await start_session(self._client)
        id = session.session_id["id"]
        self._ids.append(id)
        try:
            async with bounded():
                await self._sign()
        except BaseException:
            self._ids.remove(id)
            raise
        return session

    def _abandon(self, session: MongoSession) -> None:
        if session in self._given_out:
            self._given_out.remove(session)
        self._abandoned.append(session.session_id["id"])
        self._abandons.set()

    async def _watch(self) -> None:
        while True:
            await self._loops.turn("sessions", self._sign_again, None)
            await self._loops.turn("sessions that failed", self._end_abandoned, None)
            await self._loops.turn("sessions of dead processes", self._end_dead, None)
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._abandons.wait()
            self._abandons.clear()

    async def _sign_again(self) -> None:
        if self._ids:
            async with writing():
                await self._sign()

    async def _sign(self) -> None:
        """Records, by the server's clock, that this process is alive, and its sessions."""
        async with self._signing:
            alive = {"$set": {"sessions": list(self._ids)}, "$currentDate": {"seen": True}}
            await self._writers.update_one({"_id": self._name}, alive, upsert=True)

    async def _end_abandoned(self) -> None:
        abandoned = list(self._abandoned)
        await end_sessions(self._client, abandoned)
        self._abandoned = [id for id in self._abandoned if id not in abandoned]
        self._ids = [id for id in self._ids if id not in abandoned]

    async def _end_dead(self) -> None:
        since = {"$subtract": ["$$NOW", int(DEAD_AFTER * 1000)]}
        silent = {"sessions": {"$exists": True}, "$expr": {"$lt": ["$seen", since]}}
        async with reading():
            dead = await self._writers.find(silent).to_list(None)
        for process in dead:
            if process["_id"] != self._name:
                end_process = partial(self._end_process, process)
                await self._loops.turn("sessions of a dead process", end_process, None)

    async def _end_process(self, process: Document) -> None:
        log.info("silent_process_ended", process=process["_id"])
        await end_sessions(self._client, process["sessions"])
        async with writing():
            await self._writers.delete_one({"_id": process["_id"], "seen": process["seen"]})


async def end_sessions(client: Client, ids: Sequence[object]) -> None:
    """Has the server end these sessions, with their operations and transactions.

    Raises: StoreUnavailable.
    """
    if ids:
        async with reading():
            command = ("killSessions", [{"id": id} for id in ids])
            await client.get_database("admin").command(*command)
