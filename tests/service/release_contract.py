"""Two releases of a service side by side, on any pair of transport and stores: what only one of
them can handle waits for that one."""

from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from bus import (
    Bus,
    Command,
    DeadLetters,
    NewerMessage,
    ProjectionError,
    Projections,
    Receipt,
    Settings,
    UnknownMessage,
    Worker,
)
from bus.stores.collections import Comparable
from tests.service.bells import Chime, GetBell, Heard, LouderRing, Ring, ShapedRing, first, second
from tests.waiting import until

Make = Callable[..., Bus]


async def waiting(bus: Bus, name: str) -> bool:
    """Whether the bus's worker says that messages of that name wait for another release."""
    problems = (await bus.health()).problems
    return any(one.part == "releases" and name in one.what for one in problems)


class ReleaseContract:
    """Subclasses give `ground`: settings over which both releases share a broker and stores."""

    @pytest.fixture
    def heard(self) -> Heard:
        return []

    @pytest.fixture
    def first(self, ground: Settings, unique: str, heard: Heard) -> Make:
        return partial(first, ground, unique, heard)

    @pytest.fixture
    def second(self, ground: Settings, unique: str, heard: Heard) -> Make:
        return partial(second, ground, unique, heard)

    async def test_an_event_that_only_the_other_release_handles_waits_for_its_worker(
        self, first: Make, second: Make, heard: Heard
    ) -> None:
        async with second() as new:
            async with first() as old, Worker(old, only=["listening"]):
                for number in range(20):
                    await new.execute(Chime(bell_id=f"b{number}"))
                await until(lambda: waiting(old, "Chimed"), "the old release says that they wait")
                assert (await old.health()).ready
            async with Worker(new):
                await until(lambda: len(heard) == 20, "all of them are handled")
            assert await DeadLetters(new).list() == []
        assert sorted(heard) == sorted(("Chimed", f"bell-b{n}", 1) for n in range(20))

    async def test_a_schema_that_only_the_other_release_knows_waits_for_its_worker(
        self, first: Make, second: Make, heard: Heard
    ) -> None:
        async with second() as new:
            async with first() as old, Worker(old, only=["listening"]):
                await new.execute(LouderRing(bell_id="a", loudness=3))
                await until(lambda: waiting(old, "Rang"), "the old release says that it waits")
            async with Worker(new, only=["listening"]):
                await until(lambda: heard == [("Rang", "bell-a", 1)], "it is handled")
            assert await DeadLetters(new).list() == []

    @pytest.mark.parametrize(
        "command", [Chime(bell_id="a"), LouderRing(bell_id="a", loudness=10)], ids=["new", "field"]
    )
    async def test_a_command_that_only_the_other_release_handles_waits_for_its_worker(
        self, first: Make, second: Make, command: Command
    ) -> None:
        async with second() as new:
            async with first() as old, Worker(old, only=["commands"]):
                id = await new.send(command)
                await until(lambda: waiting(old, command.wire_name), "it waits")
            async with Worker(new, only=["commands"]):
                (commit,) = await until(lambda: new.runtime.event_log.find(id), "it is carried out")
            assert commit.result == 10
            assert await DeadLetters(new).list() == []

    async def test_a_command_on_a_stream_that_only_the_other_release_can_read_waits(
        self, first: Make, second: Make
    ) -> None:
        """Deciding by a part of what happened would be deciding wrongly."""
        async with second() as new:
            await new.execute(LouderRing(bell_id="a", loudness=3))
            async with first() as old, Worker(old, only=["commands"]):
                with pytest.raises(NewerMessage, match="Rang: it is of schema 2"):
                    await old.execute(Ring(bell_id="a"))
                id = await old.send(Ring(bell_id="a"))
                await until(lambda: waiting(old, "Ring"), "it waits")
            async with Worker(new, only=["commands"]):
                (commit,) = await until(lambda: new.runtime.event_log.find(id), "it is carried out")
            assert commit.result == 4

    async def test_who_requests_what_only_the_other_release_handles_is_told_in_time(
        self, first: Make, second: Make
    ) -> None:
        async with second() as new, first() as old, Worker(old, only=["commands"]):
            with pytest.raises(UnknownMessage, match="'Chime'"):
                await new.request(Chime(bell_id="a"))
            assert await new.runtime.event_log.find("a") == []

    async def test_what_no_release_handles_becomes_a_dead_letter_that_says_so(
        self, ground: Settings, unique: str, heard: Heard
    ) -> None:
        ground = ground.model_copy(update={"release_within": 1.0})
        async with second(ground, unique, heard) as new:
            async with first(ground, unique, heard) as old, Worker(old):
                await new.execute(Chime(bell_id="a"))
                await new.send(Chime(bell_id="b"))
                await new.send(ShapedRing(bell_id="c"))
                letters = DeadLetters(old)

                async def all() -> bool:
                    found = [one for one in await letters.list() if one.queue != "views"]
                    return len(found) == 3

                await until(all, "they are given up")
                for letter in await letters.list():
                    assert "no release that handles it was seen within" in letter.reason
                assert heard == []
            async with Worker(new):
                await letters_retried(new)
                await until(lambda: heard == [("Chimed", "bell-a", 1)], "it is handled after all")

    async def test_a_projection_leaves_to_the_other_release_what_only_that_one_handles(
        self, first: Make, second: Make
    ) -> None:
        """Though the old worker came first, and is the one active consumer. Others go on there."""
        async with second() as new, first() as old, Worker(old, only=["views"]):
            await new.execute(LouderRing(bell_id="louder", loudness=3))
            for number in range(20):
                await new.execute(Chime(bell_id=f"b{number}"))
            receipt = await old.execute(Ring(bell_id="plain"))
            assert await times(old, "plain", receipt) == 1
            await until(lambda: stand_aside(old, 21), "the streams stand aside")
            assert await DeadLetters(old).list() == []
            async with Worker(new, only=["views"]):
                await until(lambda: stand_aside(old, 0), "the new release has applied them")
                for number in range(20):
                    assert await times(new, f"b{number}") == 10
                assert await times(new, "louder") == 3
                receipt = await new.execute(Chime(bell_id="b0"))
                assert await times(new, "b0", receipt) == 20
                assert (await Projections(new).audit("views")).differences == ()

    async def test_what_a_release_that_was_rolled_back_handled_waits_and_is_told(
        self, ground: Settings, unique: str, heard: Heard
    ) -> None:
        """Until somebody says that it will not come back, by a rebuild."""
        ground = ground.model_copy(update={"release_within": 1.0})
        async with second(ground, unique, heard) as new, Worker(new, only=["views"]):
            receipt = await new.execute(Chime(bell_id="a"))
            assert await times(new, "a", receipt) == 10
        async with second(ground, unique, heard) as new:
            await new.execute(Chime(bell_id="a"))
        async with first(ground, unique, heard) as old, Worker(old, only=["views"]):
            letters = DeadLetters(old)
            (letter,) = await until(letters.list, "the stream is told of")
            assert (letter.stream, letter.version, letter.error) == ("bell-a", 2, "UnknownMessage")
            assert "another release of the code has a handler of it" in letter.reason
            collection = await Projections(old).rebuild("views")

            async def built() -> bool:
                states = {one.collection: one.state for one in await Projections(old).status()}
                return states[collection] == "read"

            await until(built, "it is built anew")
            assert await times(old, "a") is None
            receipt = await old.execute(Ring(bell_id="a"))
            assert await times(old, "a", receipt) == 1

    @pytest.mark.parametrize("version", [1, 2])
    async def test_code_of_the_next_release_judges_and_changes_nothing_of_this_ones(
        self, first: Make, second: Make, version: int
    ) -> None:
        async with first() as old, Worker(old):
            for id in ("a", "b", "c"):
                receipt = await old.execute(Ring(bell_id=id))
                assert await times(old, id, receipt) == 1
            before = await self.stored(old)
            async with second(version=version).looking() as new:
                projections = Projections(new)
                for attempt in (
                    projections.audit("views"),
                    projections.audit("views", repair=True),
                    projections.refold("views", matching="*"),
                    projections.rebuild("views"),
                ):
                    with pytest.raises(ProjectionError, match=r"readers read|another release"):
                        await attempt
                (status,) = await projections.status()
                assert (status.collection, status.state) == ("views__v1", "read")
                assert await DeadLetters(new).list() == []
            assert await self.stored(old) == before

    async def stored(self, bus: Bus) -> list[object]:
        """All that a projection has in the store, and the queues of its generations."""
        runtime = bus.runtime
        (projection,) = runtime.projections
        lineage = await runtime.catalogue.lineage(projection, within=0)
        target = runtime.catalogue.target_of(projection, lineage.of(lineage.active))
        notes = [await runtime.control.note(f"views__v1/{one}") for one in ("handled", "plan")]
        collections = cast(Comparable, runtime.collections)
        return [lineage, await collections.page(target, "", 100), notes]

    async def test_a_raised_version_is_begun_by_a_worker_of_it_and_not_by_who_only_opens(
        self, first: Make, second: Make
    ) -> None:
        """What nobody builds would have a queue that only grows."""
        async with first() as old, Worker(old, only=["views"]), second(version=2) as new:
            receipt = await new.execute(Chime(bell_id="a"))
            assert await times(new, "a", receipt) in (None, 0)
            assert [one.collection for one in await Projections(new).status()] == ["views__v1"]
            async with Worker(new, only=["views"]):

                async def read() -> bool:
                    states = {one.collection: one.state for one in await Projections(new).status()}
                    return states.get("views__v2") == "read"

                await until(read, "it is built")
                assert await times(new, "a") == 10

    async def test_partitions_may_be_added_while_both_run(self, first: Make, second: Make) -> None:
        async with first() as old, Worker(old, only=["views"]), second(partitions=2) as new:
            await new.execute(Chime(bell_id="a"))
            async with Worker(new, only=["views"]):
                receipt = await new.execute(LouderRing(bell_id="a"))
                assert await times(new, "a", receipt) == 11
            async with first() as again, Worker(again, only=["views"]):
                receipt = await again.execute(Ring(bell_id="b"))
                assert await times(again, "b", receipt) == 1


async def times(bus: Bus, bell: str, after: Receipt | None = None) -> int | None:
    view = await bus.query(GetBell(bell_id=bell), after=after, timeout=30)
    return view.times if view else None


async def stand_aside(bus: Bus, count: int) -> bool:
    """Whether so many streams wait for another release."""
    (target,) = await bus.runtime.targets()
    return [one.awaits_release for one in await bus.runtime.control.parked(target)] == [
        True
    ] * count


async def letters_retried(bus: Bus) -> None:
    letters = DeadLetters(bus)
    (letter,) = [one for one in await letters.list() if one.message == "Chimed"]
    assert (await letters.retry(letter.id)).failed == {}
