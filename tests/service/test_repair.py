"""What was given up is found, understood and repaired, on any pair of transport and stores."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from bus import (
    Bus,
    DeadLetter,
    DeadLetterError,
    DeadLetterGroup,
    DeadLetters,
    InvalidMessage,
    Settings,
    Worker,
)
from bus.delivery.drain import Expired
from bus.delivery.trust import NotInTheLog
from bus.failures.deadletters import bury
from bus.operate.projections import Projections
from bus.stores.event_log import Recorded
from bus.transports.base import Delivery
from tests.service.delivery_contract import store_and_publish
from tests.service.parcels import GetParcel, Office, ParcelView, Post, build, signed, stray
from tests.waiting import until

POISON = b'{"weight":"many"}'

Way = Callable[[Bus, AsyncExitStack], Awaitable[object]]


async def plant(bus: Bus, stream: str) -> list[str]:
    """Letters of version 1 of a stream in the projection's queue, as another release may have left
    them; returns the ids of the one that nobody vouches for."""
    queue, control = f"{bus.service}.parcels", bus.runtime.control
    for error in (InvalidMessage("torn"), Expired("it expired"), NotInTheLog("forged")):
        delivery = Delivery(stray(b"{}", stream), queue, 1, 1)
        signals = bus.runtime.signals
        await bury(control, delivery, error, handler=queue, attempts=1, signals=signals)
    return [one["_id"] for one in await control.dead_letters() if one["error"] == "NotInTheLog"]


async def _retried(bus: Bus, stack: AsyncExitStack) -> None:
    await DeadLetters(bus).retry(all=True)


async def _swept(bus: Bus, stack: AsyncExitStack) -> None:
    """A worker sweeps as it starts."""
    await stack.aclose()
    await stack.enter_async_context(Worker(bus, only=["parcels"]))


async def _tried_again(bus: Bus, stack: AsyncExitStack) -> None:
    """The stream `a` is parked, and mended."""
    await DeadLetters(bus).retry("parcels/parcel-a")


async def _rebuilt(bus: Bus, stack: AsyncExitStack) -> None:
    await Projections(bus).rebuild("parcels")


async def _refolded(bus: Bus, stack: AsyncExitStack) -> None:
    await stack.aclose()
    await Projections(bus).refold("parcels", streams=["parcel-b"])


async def _repaired(bus: Bus, stack: AsyncExitStack) -> None:
    await stack.aclose()
    await Projections(bus).audit("parcels", repair=True)


WAYS: dict[str, tuple[str, Way]] = {
    "its retry": ("parcel-b", _retried),
    "a sweep": ("parcel-b", _swept),
    "another try of the parked stream": ("parcel-a", _tried_again),
    "a rebuild": ("parcel-b", _rebuilt),
    "a refold": ("parcel-b", _refolded),
    "a repair": ("parcel-b", _repaired),
}


class RepairContract:
    """Subclasses give one fixture: `settings`, complete and with a database of its own."""

    @pytest.fixture
    def office(self) -> Office:
        return Office()

    @pytest.fixture
    async def bus(self, settings: Settings, office: Office, unique: str) -> AsyncIterator[Bus]:
        async with build(settings, office, unique) as bus:
            yield bus

    @pytest.fixture
    async def worker(self, bus: Bus) -> AsyncIterator[Worker]:
        async with Worker(bus) as worker:
            yield worker

    @pytest.fixture
    def letters(self, bus: Bus) -> DeadLetters:
        return DeadLetters(bus)

    async def groups(self, letters: DeadLetters, count: int) -> Sequence[DeadLetterGroup]:
        async def enough() -> Sequence[DeadLetterGroup] | None:
            found = await letters.groups()
            return found if len(found) == count else None

        return await until(enough, f"{count} groups")  # type: ignore[no-any-return]

    async def the_one(self, letters: DeadLetters, **where: str) -> DeadLetter:
        async def one() -> DeadLetter | None:
            found = await letters.list(**where)  # type: ignore[arg-type]
            return found[0] if len(found) == 1 else None

        return await until(one, f"one dead letter of {where}")  # type: ignore[no-any-return]

    async def gone(self, letters: DeadLetters, **where: str) -> None:
        async def none() -> bool:
            return not await letters.list(**where)  # type: ignore[arg-type]

        await until(none, f"dead letters of {where} are still there")

    async def test_all_that_was_given_up_is_in_the_groups_and_one_call_repairs_it_once_mended(
        self, bus: Bus, worker: Worker, letters: DeadLetters, office: Office
    ) -> None:
        await bus.runtime.transport.publish([signed(bus, stray(POISON, "parcel-poison"))])
        await bus.execute(Post(parcel_id="stuck", weight=1, note="unprojectable"))
        await bus.execute(Post(parcel_id="bare", weight=2, note="unlabelled"))
        await bus.execute(Post(parcel_id="bare2", weight=2, note="unlabelled"))
        good = await bus.execute(Post(parcel_id="good", weight=3))
        assert await bus.query(GetParcel(parcel_id="good"), after=good, timeout=30)

        found = await self.groups(letters, 5)
        await until(lambda: len(office.weighed) == 4, "the scales have weighed the readable ones")
        told = {(one.kind, one.queue.partition(".")[2], one.error, one.count) for one in found}
        assert told == {
            ("message", "parcels", "InvalidMessage", 1),
            ("message", "labels", "InvalidMessage", 1),
            ("message", "scales", "InvalidMessage", 1),
            ("message", "labels", "Reject", 2),
            ("stream", "parcels", "ValueError", 1),
        }
        assert {one.message for one in found} == {"Posted"}
        reasons = {one.error: one.reason for one in found}
        assert reasons["Reject"] == "no label"
        assert reasons["ValueError"] == "cannot be projected"
        assert "weight: Input should be a valid integer" in reasons["InvalidMessage"]

        office.mended = True
        outcome = await letters.retry(all=True)
        assert (len(outcome.done), outcome.failed) == (6, {})
        await self.gone(letters)
        assert office.weighed.count("parcel-bare") == 1
        assert sorted(office.labelled[-3:]) == ["parcel-bare", "parcel-bare2", "parcel-poison"]
        for parcel_id, weight in {"poison": 1000, "stuck": 1}.items():
            shown = await bus.query(GetParcel(parcel_id=parcel_id))
            assert shown == ParcelView(id=parcel_id, weight=weight)

    async def test_a_retry_that_fails_again_keeps_the_one_letter_with_its_new_error(
        self, bus: Bus, worker: Worker, letters: DeadLetters, office: Office
    ) -> None:
        await bus.execute(Post(parcel_id="bare", weight=2, note="unlabelled"))
        before = await self.the_one(letters)
        office.excuse = "still no label"
        assert await letters.retry(before.id) == ((before.id,), {})
        after = await self._again(letters, before)
        assert (after.id, after.reason, after.seen) == (before.id, "still no label", 2)
        assert after.first_seen == before.first_seen
        assert (after.body, after.headers) == (before.body, before.headers)
        assert len(await letters.list()) == 1

    async def test_an_edit_is_checked_and_what_it_made_is_handled_by_the_one_handler_that_failed(
        self, bus: Bus, worker: Worker, letters: DeadLetters, office: Office
    ) -> None:
        await bus.runtime.transport.publish([signed(bus, stray(POISON, "parcel-poison"))])
        await self.groups(letters, 3)
        found = {one.queue.partition(".")[2]: one for one in await letters.list()}
        mine = found["labels"]
        with pytest.raises(InvalidMessage, match=r"weight: Field required; note: Input should be"):
            await letters.edit(mine.id, {"note": 7})
        with pytest.raises(
            DeadLetterError, match="cannot be changed, because it is an event in the log"
        ):
            await letters.edit(found["parcels"].id, {"weight": 1})
        assert await letters.show(mine.id) == mine

        await letters.edit(mine.id, {"weight": -1})
        await letters.retry(mine.id)
        failed = await self._again(letters, mine)
        assert (failed.error, failed.body) == ("Reject", b'{"weight":-1}')

        await letters.edit(mine.id, {"weight": 5})
        await letters.retry(mine.id)
        await self.gone(letters, queue=mine.queue)
        assert office.labelled == ["parcel-poison"]
        assert len(await letters.list()) == 2

    async def test_a_letter_of_a_projection_goes_once_the_log_has_told_what_it_tried_to(
        self, bus: Bus, letters: DeadLetters
    ) -> None:
        bus.runtime.publisher._open = False
        await bus.execute(Post(parcel_id="a", weight=3))
        torn = [stray(b"torn", "parcel-a", version) for version in (1, 2)]
        await bus.runtime.transport.publish(torn)
        async with Worker(bus, only=["parcels"]):

            async def told() -> list[DeadLetter]:
                return [one for one in await letters.list() if one.version == 2]

            (second,) = await until(told, "a letter of the second, which the log does not hold")
            first = [one.id for one in await letters.list() if one != second]
            await letters.retry(*first, second.id)
            await self._again(letters, second)
            assert (await self.the_one(letters)).id == second.id

    async def test_an_event_that_nobody_can_read_is_one_problem_of_a_projection(
        self, bus: Bus, worker: Worker, letters: DeadLetters, office: Office
    ) -> None:
        poison = Recorded("Posted", 1, {"weight": "many"})
        await store_and_publish(bus, "parcel-a", poison)
        await self.groups(letters, 3)  # of the handlers, each its own, and of the projection
        one = await self.the_one(letters, queue=one_queue(bus))
        assert (one.kind, one.stream, one.version) == ("stream", "parcel-a", 1)
        stands = "parcels__v1/parcel-a at version 1, Posted: InvalidMessage"

        async def what_is_told() -> list[str]:
            return [p.what for p in (await bus.health()).problems if "parcel" in p.part]

        async def is_told() -> bool:
            return await what_is_told() == [f"streams parked: 1; {stands}"]

        await until(is_told, "health tells of the stream alone")
        (status,) = await Projections(bus).status("parcels")
        assert [str(stuck) for stuck in status.stuck] == [stands]

        (forged,) = await plant(bus, "parcel-a")
        planted = await bus.runtime.control.dead_letters(where={"headers.stream": "parcel-a"})
        own = [one["_id"] for one in planted if one["queue"] == one["handler"] == one_queue(bus)]
        assert len(own) == 3
        assert forged in own

        async def tells_all() -> bool:
            what, *more = await what_is_told()
            begins = what.startswith(f"streams parked: 1; {stands} (dead letter ")
            return begins and not more and all(id in what for id in own)

        await until(tells_all, "health tells of the stream, with all its dead letters")

    @pytest.mark.parametrize("way", WAYS)
    async def test_the_letters_of_a_projection_go_however_its_stream_got_there(
        self, bus: Bus, letters: DeadLetters, office: Office, way: str
    ) -> None:
        stream, get_there = WAYS[way]
        collections, control = bus.runtime.collections, bus.runtime.control
        (target,) = await bus.runtime.targets()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(Worker(bus, only=["parcels"]))
            await until(lambda: control.swept(target), "it has swept, and does not soon again")
            await store_and_publish(bus, "parcel-a", Recorded("Posted", 1, {"weight": "many"}))
            await store_and_publish(bus, "parcel-b", Recorded("Posted", 1, {"weight": 1}))
            await until(lambda: control.parked(target), "one is parked")

            async def applied() -> bool:
                return "parcel-b" in await collections.versions(target, ["parcel-b"])

            await until(applied, "the other one is applied")
            (forged,) = await plant(bus, stream)
            office.mended = True
            await get_there(bus, stack)

            async def only_the_forged_one() -> bool:
                left = [one["_id"] for one in await control.dead_letters()]
                assert forged in left or way == "its retry"
                return set(left) <= {forged}

            await until(only_the_forged_one, "the others are gone")

    async def test_what_is_discarded_is_gone_and_a_stream_is_not_discarded(
        self, bus: Bus, worker: Worker, letters: DeadLetters
    ) -> None:
        await bus.execute(Post(parcel_id="stuck", weight=1, note="unprojectable"))
        for number in range(3):
            await bus.execute(Post(parcel_id=f"b{number}", weight=2, note="unlabelled"))

        async def all_there() -> bool:
            return sorted(one.count for one in await letters.groups()) == [1, 3]

        await until(all_there, "three letters and a parked stream")
        stuck = await self.the_one(letters, queue=f"{bus.service}.parcels")
        shown = await letters.show(stuck.id)
        assert (shown.stream, shown.version) == ("parcel-stuck", 1)
        assert b'"unprojectable"' in shown.body
        with pytest.raises(
            DeadLetterError, match="cannot be changed, because it is an event in the log"
        ):
            await letters.edit(stuck.id, {"weight": 1})
        seen: list[tuple[int, int]] = []
        outcome = await letters.discard(all=True, report=lambda *how: seen.append(how))
        assert (len(outcome.done), list(outcome.failed)) == (3, [stuck.id])
        assert "correct the projection's handler" in outcome.failed[stuck.id]
        assert seen == [(4, 4)]
        assert [one.id for one in await letters.list()] == [stuck.id]

    async def test_what_cannot_be_retried_says_why_and_the_pace_is_kept(
        self, bus: Bus, letters: DeadLetters
    ) -> None:
        row = {
            "queue": f"{bus.service}.gone",
            "handler": "gone",
            "message": "Posted",
            "message_id": "m1",
            "correlation_id": "c1",
            "headers": {},
            "body": b"{}",
            "error": "ValueError",
            "reason": "r",
            "frames": [],
            "fingerprint": "f1",
            "attempts": 1,
            "time": stray(b"", "parcel-a").time,
        }
        ids = [f"{bus.service}.gone/{number}" for number in range(5)]
        for id in ids:
            await bus.runtime.control.add_dead_letter({"_id": id, **row})
        started = time.monotonic()
        outcome = await letters.retry(*ids, "parcels/parcel-x", "a.b/none", rate=20)
        assert time.monotonic() - started >= 6 / 20
        assert (outcome.done, len(outcome.failed)) == ((), 7)
        assert "gone is gone; start a worker" in outcome.failed[ids[0]]
        assert outcome.failed["a.b/none"].startswith("there is no such dead letter")
        assert outcome.failed["parcels/parcel-x"].startswith("there is no such dead letter")
        with pytest.raises(DeadLetterError, match=r"gone; it was removed or renamed"):
            await letters.edit(ids[0], {})
        with pytest.raises(DeadLetterError, match="say which"):
            await letters.retry()
        assert [one.id for one in await letters.list(group="f1", limit=2, skip=4)] == ids[:1]

    async def _again(self, letters: DeadLetters, before: DeadLetter) -> DeadLetter:
        async def seen() -> DeadLetter | None:
            now = await letters.show(before.id)
            return now if now.last_seen > before.last_seen else None

        return await until(seen, "the letter to fail again")  # type: ignore[no-any-return]


def one_queue(bus: Bus) -> str:
    """The projection's."""
    return f"{bus.service}.parcels"


class TestRepairInMemory(RepairContract):
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings.in_memory()


class TestRepair(RepairContract):
    @pytest.fixture
    def settings(self, real_settings: Settings) -> Settings:
        return real_settings
