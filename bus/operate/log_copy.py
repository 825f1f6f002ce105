"""Moves a service's log to another database, while commands come in.

At any time at most one of the two takes commits: the new one is fenced until the move is done, and
the old one is fenced before that. What is here is found by comparing both logs, each read once in
the same order: a copy that was interrupted goes on, and a comparison is a copy that finds nothing.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bus.common import clock
from bus.errors import BusError, ConfigurationError, StoreUnavailable, Unavailable
from bus.observe.log import Logger
from bus.operate.log_pairs import MOST_COMMITS, Batch, pairs
from bus.operate.log_place import LogPlace
from bus.operate.log_states import States
from bus.stores.event_log import Snapshot
from bus.stores.records import differ

GRACE = timedelta(seconds=15)
"""How long a commit may take, normally, until it can be seen."""
NEAR = 5.0
"""Seconds: a pass that takes no longer has come near enough to the end."""
LONG_AGO, FAR_OFF = (edge.replace(tzinfo=UTC) for edge in (datetime.min, datetime.max))
MARKS = 1000
PUBLISHED_WITHIN = 10.0
POSITION = "/copied"
"""Where the new log keeps, as a snapshot, up to when it has everything."""

Report = Callable[[str, int, int], object]
"""Is called with what is being done, how many commits are done, and of how many."""

log = Logger("bus.operate")


class LogCopied(NamedTuple):
    """What became of a move. `state` is "following" (the new log is seconds behind, run it again or
    finish), "moved" or "stays" (the move was given up). `compared` counts the commits that both
    logs were found to have, `fenced` the seconds in which neither took commits."""

    state: str
    copied: int = 0
    compared: int = 0
    marks: int = 0
    fenced: float = 0.0


class LogCopy:
    """Moves the log of `service` from `origin` to `target`. Processes of the service may run, with
    the log at `origin`.

    Raises: ConfigurationError (the target is not empty and no copy of this log, or the logs
    differ), StoreUnavailable, OutcomeUnknown (run it again: it goes on where it was).
    """

    def __init__(
        self,
        service: str,
        origin: LogPlace,
        target: LogPlace,
        report: Report = lambda phase, done, of: None,
        *,
        time_limit: float = 300.0,
    ) -> None:
        """`time_limit` is the longest one of handlers, in seconds."""
        self._handled_within = timedelta(seconds=60 + min(time_limit, 3600))
        self._service = service
        self._origin = origin
        self._target = target
        self._report = report
        self._states = States(origin.log, target.log)
        self._id = clock.new_id()
        self._copied = 0
        self._compared = 0
        self._marks = 0
        self._fenced = 0.0

    async def follow(self) -> LogCopied:
        """Copies everything, and then what is new, until it is seconds behind."""
        if not await self._begin():
            return self._outcome("moved")
        await self._follow()
        return self._outcome("following")

    async def finish(self) -> LogCopied:
        """Copies and compares everything; then fences the old log, copies and compares the rest,
        and lets the new one take commits. If they differ, the old one goes on."""
        if not await self._begin():
            return self._outcome("moved")
        copied = await self._follow()
        await self._compare(None, copied, of=await self._size())
        await self._check_letters()
        since = await self._follow()  # comparing took a while
        await self._compare(copied, since)
        began = time.monotonic()
        try:
            await self._check_alone()
            await self._origin.log.fence(self._moved)
            await self._rest(since)
            await self._check_alone()
        except BaseException as error:
            await self._take_back(error)
            raise
        # If this does not get an answer, both stay fenced, and the next run goes on.
        await self._target.log.unfence()
        self._fenced = time.monotonic() - began
        log.info("log_moved", service=self._service, to=self._target.name, commits=self._compared)
        return self._outcome("moved")

    async def abandon(self) -> LogCopied:
        """Lets the old log take commits again, and the new one none.

        Raises: ConfigurationError if the new one has taken some: they would be lost.
        """
        if not await self._origin.log.fenced():
            return self._outcome("stays")
        was_open = not await self._target.log.fenced()
        await self._target.log.fence(self._copying)
        try:
            await self._check_target()
        except ConfigurationError:
            if was_open:
                await self._target.log.unfence()
            raise ConfigurationError(
                f"the log at {self._target.name} has taken commits since it was moved there; to "
                f"have it at {self._origin.name} again, copy it back (`bus stores copy`)"
            ) from None
        await self._origin.log.unfence()
        return self._outcome("stays")

    def _outcome(self, state: str) -> LogCopied:
        return LogCopied(
            state,
            copied=self._copied,
            compared=self._compared,
            marks=self._marks,
            fenced=round(self._fenced, 3),
        )

    # --- who takes commits ---------------------------------------------------------------------

    @property
    def _whose(self) -> str:
        return f"the log of {self._service!r} "

    @property
    def _moved(self) -> str:
        return (
            f"{self._whose}was moved to {self._target.name}, and this one at {self._origin.name} "
            f"takes nothing any more: start this process again with {self._target.setting}. "
            f"Nothing is lost: queued commands wait, and a command that was refused can be sent "
            f"again with its id"
        )

    @property
    def _copying(self) -> str:
        return (
            f"{self._whose}is being copied to {self._target.name}: until that is finished, start "
            f"processes with the log at {self._origin.name} (copy {self._id})"
        )

    async def _begin(self) -> bool:
        """Fences the target; returns False if the log was moved to it already."""
        went = await self._origin.log.fenced()
        barred = await self._target.log.fenced()
        if went and not barred:
            await self._check_moved(went)
            return False
        for reason in (went, barred):
            if reason and not reason.startswith(self._whose):
                raise ConfigurationError(
                    f"{self._origin.name} cannot be copied to {self._target.name}: {reason}"
                )
        await self._check_target()
        await self._target.log.fence(self._copying)
        if not went and await self._origin.log.fenced():
            await self._target.log.unfence()
            raise ConfigurationError(
                f"{self._origin.name} and {self._target.name} are the same log; give the place to "
                f"which it is to be moved"
            )
        await self._check_target()  # a commit may have come in between
        return True

    async def _check_alone(self) -> None:
        """Raises: ConfigurationError if another copy has begun since."""
        if await self._target.log.fenced() != self._copying:
            raise ConfigurationError(
                f"another copy to {self._target.name} was begun meanwhile, and goes on"
            )

    async def _check_letters(self) -> None:
        """Raises: ConfigurationError if dead letters would be left behind."""
        letters = self._origin.letters
        if letters and (found := await letters.dead_letters(limit=1)):
            raise ConfigurationError(
                f"dead letters are kept with the log at {self._origin.name}, and do not go with it "
                f"({found[0]['_id']}, for one): retry or discard them first (`bus deadletters "
                f"list APP`); until then, the log stays where it is"
            )

    async def _check_moved(self, went: str) -> None:
        """Raises: ConfigurationError if the origin went somewhere else."""
        if went != self._moved:
            raise ConfigurationError(
                f"{self._origin.name} cannot be copied to {self._target.name}: {went}"
            )

    async def _check_target(self) -> None:
        """Raises: ConfigurationError if the target has a commit that the origin lacks."""
        newest = await self._target.log.newest()
        if newest:
            await self._check_known([newest])

    async def _check_known(self, ids: list[str]) -> None:
        strange = set(ids) - await self._origin.log.held(ids)
        if strange:
            raise ConfigurationError(
                f"{self._target.name} holds what the log at {self._origin.name} lacks "
                f"({min(strange)}, for one): it is another service's log, or was in use since; "
                f"give an empty database, or the one that this log was copied to before"
            )

    async def _take_back(self, error: BaseException) -> None:
        """Lets the origin take commits again, unless another copy has taken over.

        Raises: StoreUnavailable if that fails as well.
        """
        try:
            await self._check_alone()
        except ConfigurationError:
            return
        except Unavailable:
            pass  # the target is away, and was fenced
        try:
            await asyncio.shield(self._origin.log.unfence())
        except BusError as again:
            raise StoreUnavailable(
                f"{error}; and {self._origin.name} takes no commits yet, because the fence could "
                f"not be taken back ({again}): as soon as both databases answer, run this again "
                f"with --finish, or with --abandon"
            ) from error

    # --- copying -------------------------------------------------------------------------------

    async def _follow(self) -> datetime:
        """Copies until it is near the end, or comes no nearer; returns up to when the target has
        everything."""
        since = await self._position()
        of = await self._size() if since is None else 0
        took = before = float("inf")
        while before == float("inf") or NEAR < took < 0.8 * before:
            began = time.monotonic()
            complete = await self._origin.log.settled() - GRACE
            await self._copy_marks(since)
            if before == float("inf"):
                await self._states.copy_all(anew=since is None)
            await self._pass("copying", since, complete=complete, of=of)
            since = max(since or LONG_AGO, complete)
            await self._note(since)
            before, took, of = took, time.monotonic() - began, 0
        assert since is not None
        return since

    async def _rest(self, since: datetime) -> None:
        """Copies what is left behind the fence, and compares."""
        await self._published()
        await self._copy_marks(since)
        await self._pass("copying the rest", since)
        await self._compare(since)
        if await self._size() != await self._size(self._target):
            # A process whose clock is wrong has dated commits long ago, say.
            await self._pass("copying the rest", None)
            self._compared = 0
            await self._compare(None)
        await self._clear_pending()

    async def _compare(
        self, since: datetime | None, until: datetime = FAR_OFF, *, of: int = 0
    ) -> None:
        """Compares what was copied from `since` on and before `until`. What is missing is copied
        again, once. Raises: StoreUnavailable."""
        for is_last in (False, True):
            before = self._copied
            count = await self._pass("comparing", since, until=until, of=of)
            if self._copied == before:
                self._compared += count
                return
            if is_last:
                raise StoreUnavailable(
                    f"{self._target.name} lacks {self._copied - before} commits that were copied "
                    f"to it"
                )

    async def _size(self, place: LogPlace | None = None) -> int:
        of = (place or self._origin).log
        return await of.count(await of.categories())

    async def _pass(
        self,
        phase: str,
        since: datetime | None,
        *,
        until: datetime = FAR_OFF,
        complete: datetime | None = None,
        of: int = 0,
    ) -> int:
        """Goes through both logs from `since` on and before `until`, and copies what the target
        lacks or marks otherwise; returns how many commits the origin has there. With `complete`,
        notes how far it is, up to that time."""
        done, noted = 0, time.monotonic()
        batch, strange = Batch(), list[str]()
        async with aclosing(pairs(self._origin.log, self._target.log, since)) as both:
            async for own, other in both:
                if own is None:
                    strange += [other.commit.id] if other else []
                    continue
                if own.commit.time >= until:
                    break
                done += 1
                self._copied += other is None
                is_equal = other and own.pending == other.pending
                if not (other and is_equal and not differ(own.commit, other.commit)):
                    batch.add(own)
                if batch.is_full or len(strange) > MARKS:
                    await self._store(batch, strange)
                if done % MOST_COMMITS == 0:
                    self._report(phase, min(done, of), of)
                if complete and time.monotonic() > noted + NEAR:
                    await self._store(batch, strange)
                    await self._note(min(own.commit.time, complete))
                    noted = time.monotonic()
        await self._store(batch, strange)
        self._report(phase, done, done)
        return done

    async def _store(self, batch: Batch, strange: list[str]) -> None:
        if strange:
            await self._check_known(strange)
            strange.clear()
        if batch.copies:
            await self._target.log.import_commits(batch.copies)
            await self._states.copy({copy.commit.stream for copy in batch.copies})
            batch.clear()

    async def _position(self) -> datetime | None:
        """Returns up to when the target has everything; None if it does not know."""
        found = await self._target.log.snapshot(POSITION)
        return datetime.fromisoformat(found.state["until"]) if found else None

    async def _note(self, until: datetime) -> None:
        version = int(until.timestamp() * 1000)
        state = {"until": until.isoformat()}
        await self._target.log.save_snapshot(Snapshot(POSITION, version, POSITION, state))

    # --- what was published, what was handled --------------------------------------------------

    async def _published(self) -> None:
        """Waits a while for the old processes to publish what is pending: what is still pending
        then is published by the new ones as well."""
        deadline = time.monotonic() + PUBLISHED_WITHIN
        while time.monotonic() < deadline:
            if not await self._origin.log.pending(FAR_OFF, 1):
                return
            await asyncio.sleep(0.1)

    async def _clear_pending(self) -> None:
        """Clears the marks at the target of what was published since it was copied."""
        since: datetime | None = None
        limit = MARKS
        while page := await self._target.log.pending(FAR_OFF, limit, since):
            until = page[-1].time + timedelta(milliseconds=1)
            gone = {one.id for one in page} - await self._pending_at_origin(page[0].time, until)
            await self._target.log.confirmed(list(await self._origin.log.held(list(gone))))
            if len(page) < limit:
                return
            limit = 2 * limit if page[-1].time == since else MARKS
            since = page[-1].time

    async def _pending_at_origin(self, since: datetime, until: datetime) -> set[str]:
        """Returns the ids of all that is pending from `since` on and before `until`."""
        limit = 2 * MARKS
        while len(found := await self._origin.log.pending(until, limit, since)) == limit:
            limit *= 2
        return {commit.id for commit in found}

    async def _copy_marks(self, since: datetime | None) -> None:
        """Copies which events were handled from `since` on; a mark has the time at which its
        handler began."""
        after, since = "", since and since - self._handled_within
        while marks := await self._origin.effects.marks(after, MARKS, since):
            if after == "":
                await self._target.effects.open()
            await self._target.effects.remember(marks)
            self._marks += len(marks)
            after = marks[-1]
