"""What every store of a service's own records promises.

Subclasses provide the fixture `control`, open and empty, and close it.
"""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bus.common import clock
from bus.data.payload import Document
from bus.stores.collections import Target
from bus.stores.control import Control, Note, Parked


class ControlContract:
    """Notes, leases, parked streams, marks of sweeps, dead letters."""

    @pytest.fixture
    def target(self) -> Target:
        """A target whose collection is never made: only what is kept about it counts here."""
        return Target("jobs", "jobs", versions_in_documents=True)

    @pytest.fixture
    def ticking(self, monkeypatch: pytest.MonkeyPatch) -> "Ticking":
        """A clock that stands still unless the test moves it on."""
        ticking = Ticking()
        monkeypatch.setattr(clock, "source", ticking)
        return ticking

    async def test_a_note_is_written_by_one_of_those_who_read_it(self, control: Control) -> None:
        empty = await control.note("n")
        assert empty == Note("n", {})
        tries = [control.write_note(empty._replace(value={"by": n})) for n in range(5)]
        assert sum(await asyncio.gather(*tries)) == 1
        first = await control.note("n")
        assert first.revision == 1
        assert await control.write_note(first._replace(value={"list": [{"a": 1.5}], "by": 9}))
        assert not await control.write_note(first)
        assert await control.note("n") == Note("n", {"list": [{"a": 1.5}], "by": 9}, 2)

    async def test_parked_streams_are_kept_until_unparked(
        self, control: Control, target: Target
    ) -> None:
        now = clock.now()
        parked = Parked(
            stream="job-a",
            version=4,
            error="ValueError",
            tries=1,
            next_try=now,
            message="Paid",
            reason="no way",
            frames=("a.py:1 f", "b.py:2 g"),
            fingerprint="f1",
            first_seen=now,
            last_seen=now,
        )
        await control.park(target, parked)
        await control.park(target, parked._replace(stream="job-b"))
        await control.park(target, parked._replace(tries=2))
        found = {parked.stream: parked for parked in await control.parked(target)}
        assert found["job-a"] == parked._replace(tries=2)
        assert set(found) == {"job-a", "job-b"}
        (asked,) = await control.parked(target, ["job-b", "job-never"])
        assert asked == parked._replace(stream="job-b")
        assert await control.parked(target, []) == []
        assert await control.parked(target._replace(collection="other"), ["job-a"]) == []
        assert await control.parked(target._replace(collection="other")) == []
        await control.unpark(target, "job-a")
        await control.unpark(target, "job-never")
        assert [left.stream for left in await control.parked(target)] == ["job-b"]

    async def test_the_sweep_mark_is_kept(self, control: Control, target: Target) -> None:
        assert await control.swept(target) is None
        now = clock.now()
        for until in (now, now + timedelta(minutes=1)):
            await control.mark_swept(target, until)
            assert await control.swept(target) == until

    async def test_of_a_dropped_target_nothing_is_kept(
        self, control: Control, target: Target
    ) -> None:
        other = target._replace(projection="others", collection="others")
        for place in (target, other):
            await control.park(
                place,
                Parked(stream="job-b", version=1, error="Error", tries=1, next_try=clock.now()),
            )
            await control.mark_swept(place, clock.now())
            assert await control.write_note(Note(f"{place.collection}/plan", {"n": 1}))
        for _ in range(2):
            await control.drop(target)
        assert await control.parked(target) == []
        assert await control.swept(target) is None
        assert (await control.note(f"{target.collection}/plan")).revision == 0
        assert (await control.note("others/plan")).revision == 1
        assert len(await control.parked(other)) == 1
        assert await control.swept(other) is not None

    async def test_a_lease_has_one_holder_until_it_ends(self, control: Control) -> None:
        assert await control.lease("relay", "a", 60)
        assert await control.lease("relay", "a", 0)
        assert await control.lease("relay", "b", 60)
        assert not await control.lease("relay", "a", 60)
        assert await control.lease("other", "a", 60)
        got = await asyncio.gather(*[control.lease("new", f"o{n}", 60) for n in range(20)])
        assert sorted(got) == [False] * 19 + [True]

    async def test_what_stands_in_the_database_keeps_its_identity(self, control: Control) -> None:
        assert await control.write_note(Note("n", {}))
        before = await control.identities()
        assert await control.identities() == before
        assert await control.identities(["no such collection"]) == {}
        assert await control.identities([*before]) == before

    async def test_dead_letters_are_kept_and_counted(self, control: Control) -> None:
        letter = {"_id": "q/1", "body": b"x", "headers": {"a.b": "$c"}, "time": clock.now()}
        await control.add_dead_letter(letter)
        await control.add_dead_letter({**letter, "_id": "q/2"})
        await control.add_dead_letter({**letter, "body": b"other"})
        found = {kept["_id"]: kept for kept in await control.dead_letters()}
        assert set(found) == {"q/1", "q/2"}
        assert found["q/1"].items() >= {**letter, "seen": 2}.items()
        assert found["q/2"]["seen"] == 1
        assert len(await control.dead_letters(limit=1)) == 1

    async def test_a_dead_letter_that_fails_again_keeps_its_message_and_tells_the_new_error(
        self, control: Control
    ) -> None:
        first = letter("q/1", body=b"first")
        await control.add_dead_letter(first)
        assert await control.change_dead_letter("q/1", {"body": b"edited"})
        again = {**first, "error": "KeyError", "fingerprint": "f2", "attempts": 9}
        await control.add_dead_letter(again)
        (found,) = await control.dead_letters()
        assert found.items() >= {**again, "body": b"edited", "seen": 2}.items()
        assert found["first_seen"] <= found["last_seen"]

    async def test_dead_letters_are_found_by_their_fields_page_by_page(
        self, control: Control, ticking: "Ticking"
    ) -> None:
        for number in range(5):
            await control.add_dead_letter(letter(f"q/{number}", message=f"M{number % 2}"))
            ticking.tick()
        await control.add_dead_letter(letter("q/0", message="M0"))
        assert await ids(control) == ["q/0", "q/4", "q/3", "q/2", "q/1"]
        assert await ids(control, limit=2, skip=1) == ["q/4", "q/3"]
        assert await ids(control, where={"message": "M1", "queue": "q"}) == ["q/3", "q/1"]
        assert await ids(control, where={"_id": "q/2"}) == ["q/2"]
        assert await ids(control, where={"queue": "other"}) == []
        await control.add_dead_letter({**letter("q/s"), "headers": {"stream": "job-1"}})
        assert await ids(control, where={"headers.stream": "job-1"}) == ["q/s"]
        assert await ids(control, where={"headers.stream": "job-2", "queue": "q"}) == []
        (some,) = await control.dead_letters(where={"_id": "q/s"}, fields=["headers"])
        assert some == {"_id": "q/s", "headers": {"stream": "job-1"}}
        assert await control.remove_dead_letters(["q/s"]) == 1
        assert await control.dead_letter_ids() == [f"q/{number}" for number in range(5)]
        assert await control.dead_letter_ids({"message": "M1"}) == ["q/1", "q/3"]

    async def test_dead_letters_of_one_fingerprint_are_a_group(
        self, control: Control, ticking: "Ticking"
    ) -> None:
        assert await control.dead_letter_groups() == []
        started = clock.now()
        for number, fingerprint in enumerate(["f1", "f2", "f1"]):
            new = letter(f"q/{number}", fingerprint=fingerprint, reason=f"r{number}")
            await control.add_dead_letter(new)
            ticking.tick()
        first, second = await control.dead_letter_groups()
        assert first == {
            "fingerprint": "f1",
            "count": 2,
            "first_seen": started,
            "last_seen": started + timedelta(seconds=2),
            "queue": "q",
            "handler": "q",
            "message": "M",
            "error": "ValueError",
            "reason": "r2",
        }
        assert (second["fingerprint"], second["count"]) == ("f2", 1)

    async def test_a_dead_letter_is_changed_and_removed_by_its_id(self, control: Control) -> None:
        for id in ("q/1", "q/2", "q/3"):
            await control.add_dead_letter(letter(id))
        assert await control.change_dead_letter("q/2", {"headers": {"a.b": "$c"}})
        assert not await control.change_dead_letter("q/9", {"headers": {}})
        assert await control.remove_dead_letters(["q/1", "q/3", "q/9"]) == 2
        assert await control.remove_dead_letters([]) == 0
        (left,) = await control.dead_letters()
        assert (left["_id"], left["headers"], left["body"]) == ("q/2", {"a.b": "$c"}, b"x")


class Ticking(clock.Source):
    """A clock that a test moves on, second by second."""

    def __init__(self) -> None:
        super().__init__()
        self._now = float(int(super().seconds()))

    def seconds(self) -> float:
        return self._now

    def tick(self) -> None:
        self._now += 1


def letter(id: str, **fields: Any) -> Document:
    """Returns a dead letter as delivery makes it, with `fields` of the test's own."""
    return {
        "_id": id,
        "queue": "q",
        "handler": "q",
        "message": "M",
        "headers": {},
        "body": b"x",
        "error": "ValueError",
        "reason": "r",
        "frames": ["file.py:1 function"],
        "fingerprint": "f1",
        "attempts": 4,
        "time": clock.now(),
        **fields,
    }


async def ids(control: Control, **selection: Any) -> list[str]:
    """Returns the ids of the dead letters that a selection finds, in its order."""
    return [found["_id"] for found in await control.dead_letters(**selection)]
