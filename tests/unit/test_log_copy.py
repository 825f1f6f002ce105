"""Moving a log, in memory: what is copied, who takes commits at which time, and what is refused."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from bus.common import clock
from bus.errors import ConfigurationError, StoreUnavailable
from bus.operate import log_copy
from bus.operate.log_copy import FAR_OFF, POSITION, LogCopied, LogCopy
from bus.operate.log_place import LogPlace
from bus.stores.event_log import Commit, Outgoing, Snapshot, StoredCommit
from bus.stores.memory import MemoryCollections, MemoryEventLog
from bus.stores.memory.effects import MemoryEffects
from bus.testing.contracts.event_log_contract import commit


class Log(MemoryEventLog):
    """A log that can be away, or lose what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.away_after = -1
        self.loses = ""

    async def import_commits(self, copies: Sequence[StoredCommit]) -> None:
        self._check()
        await super().import_commits([one for one in copies if one.commit.id != self.loses])

    async def unfence(self) -> None:
        self._check()
        await super().unfence()

    def _check(self) -> None:
        if self.away_after == 0:
            raise StoreUnavailable("it is away")
        self.away_after -= 1


def place(name: str) -> LogPlace:
    log = Log()
    effects = MemoryEffects(log, MemoryCollections(), projected=[], handled_for=3600)
    return LogPlace(name, log, effects)


@pytest.fixture
def old() -> LogPlace:
    return place("the old place")


@pytest.fixture
def new() -> LogPlace:
    return place("the new place")


def copy(old: LogPlace, new: LogPlace, service: str = "jobs") -> LogCopy:
    return LogCopy(service, old, new)


async def filled(place: LogPlace, count: int = 1200, ago: timedelta = timedelta(hours=1)) -> None:
    """Stores commits of several kinds, at most two a millisecond; none is pending."""
    began = clock.now() - ago
    for n in range(count):
        time = began + timedelta(milliseconds=n // 2)
        one = commit(f"c{n}", f"job-{n % 7}", n // 7 + 1, time=time)
        await place.log.append([one])
    receipt = commit("receipt", "sent-1", events=(), result={"a": 1.0}, time=began)
    sends = commit("sends", "sent-2", events=(), outgoing=(Outgoing("n", "Do", 1, {}),), time=began)
    await place.log.append([receipt])
    await place.log.append([sends])
    await place.log.confirmed([f"c{n}" for n in range(count)] + ["receipt", "sends"])


async def everything(place: LogPlace) -> list[StoredCommit]:
    return [stored async for stored in place.log.every()]


async def takes(place: LogPlace, id: str = "") -> bool:
    try:
        await place.log.append([commit(id or clock.new_id(), f"new-{clock.new_id()}")])
    except StoreUnavailable:
        return False
    return True


async def test_a_log_is_moved_and_moved_back(old: LogPlace, new: LogPlace) -> None:
    await filled(old)
    await old.log.append([commit("waiting", "waits-1")])
    found = await copy(old, new).finish()
    assert (found.state, found.copied, found.compared) == ("moved", 1203, 1203)
    assert await everything(new) == await everything(old)
    assert [one.id for one in await new.log.pending(FAR_OFF, 10)] == ["waiting"]
    assert not await takes(old)
    assert await takes(new, "after the move")
    back = await copy(new, old).finish()
    assert back.copied == 1
    assert await everything(new) == await everything(old)
    assert await takes(old)
    assert not await takes(new)


async def test_without_finish_the_old_log_goes_on_and_the_new_one_waits(
    old: LogPlace, new: LogPlace
) -> None:
    await filled(old)
    assert (await copy(old, new).follow()).copied == 1202
    assert await takes(old)
    assert not await takes(new)
    assert (await copy(old, new).follow()).copied == 1
    assert await everything(new) == await everything(old)


async def test_what_moved_already_is_said_again(old: LogPlace, new: LogPlace) -> None:
    await filled(old, 3)
    await copy(old, new).finish()
    assert await copy(old, new).follow() == LogCopied("moved")
    assert await copy(old, new).finish() == LogCopied("moved")
    assert await takes(new)
    with pytest.raises(ConfigurationError, match="was moved to the new place"):
        await copy(old, place("a third place")).finish()


async def test_a_copy_goes_on_where_it_was(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copy, "NEAR", -1.0)
    await filled(old)
    assert isinstance(new.log, Log)
    new.log.away_after = 2
    with pytest.raises(StoreUnavailable):
        await copy(old, new).follow()
    assert len(await everything(new)) == 2
    assert await new.log.snapshot(POSITION)
    new.log.away_after = -1
    assert (await copy(old, new).finish()).copied == 1200
    assert await everything(new) == await everything(old)


async def test_a_failure_behind_the_fence_lets_the_old_log_go_on(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(old, 3)
    assert isinstance(new.log, Log)
    await copy(old, new).follow()
    behind = copy(old, new)
    rest = behind._rest

    async def failing(*given: Any) -> None:
        await old.log.import_commits([StoredCommit(commit("late", "late-1"), True)])
        assert isinstance(new.log, Log)
        new.log.away_after = 0
        await rest(*given)

    monkeypatch.setattr(behind, "_rest", failing)
    with pytest.raises(StoreUnavailable, match="it is away"):
        await behind.finish()
    assert await takes(old)
    assert not await takes(new)
    new.log.away_after = -1
    assert (await copy(old, new).finish()).state == "moved"
    assert await everything(new) == await everything(old)


async def test_if_the_old_log_cannot_go_on_that_is_said_and_mended_by_another_run(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(old, 3)
    await copy(old, new).follow()
    assert isinstance(old.log, Log)
    old.log.away_after = 0
    behind = copy(old, new)
    monkeypatch.setattr(behind, "_published", _fail)
    with pytest.raises(StoreUnavailable, match="run this again with --finish, or with --abandon"):
        await behind.finish()
    assert not await takes(old)
    old.log.away_after = -1
    assert (await copy(old, new).abandon()).state == "stays"
    assert await takes(old)
    assert not await takes(new)


async def _fail() -> None:
    raise StoreUnavailable("something is away")


async def test_a_finish_that_was_killed_is_finished_by_the_next_run(
    old: LogPlace, new: LogPlace
) -> None:
    await filled(old, 3)
    killed = copy(old, new)
    await killed.follow()
    await old.log.fence(killed._moved)
    assert (await copy(old, new).follow()).state == "following"
    assert not await takes(old)
    assert not await takes(new)
    assert (await copy(old, new).finish()).state == "moved"
    assert await takes(new)


async def test_what_is_lost_on_the_way_stops_the_move(old: LogPlace, new: LogPlace) -> None:
    await filled(old)
    assert isinstance(new.log, Log)
    new.log.loses = "c777"
    with pytest.raises(StoreUnavailable, match="lacks 1 commits"):
        await copy(old, new).finish()
    assert await takes(old)
    assert not await takes(new)


async def test_what_differs_stops_the_move(old: LogPlace, new: LogPlace) -> None:
    await filled(old, 3)
    await copy(old, new).follow()
    assert isinstance(new.log, Log)
    stored = await new.log.commits(["receipt"])
    new.log._commits.pop("receipt")
    new.log._taken.remove(("sent-1", 1))
    forged = StoredCommit(stored[0]._replace(result={"a": 1}), False)
    await new.log.import_commits([forged])
    with pytest.raises(ConfigurationError, match=r"receipt .stream sent-1, version 1. cannot"):
        await copy(old, new).finish()
    assert await takes(old)


async def test_commits_dated_long_ago_are_found_behind_the_fence(
    old: LogPlace, new: LogPlace
) -> None:
    await filled(old)
    await copy(old, new).follow()
    long_ago = commit("strange", "strange-1", time=clock.now() - timedelta(days=9))
    await old.log.append([long_ago])
    follow = LogCopy.follow
    assert (await follow(copy(old, new))).copied == 0
    found = await copy(old, new).finish()
    assert found.copied == 1
    assert await everything(new) == await everything(old)


async def test_another_services_log_is_left_alone(old: LogPlace, new: LogPlace) -> None:
    await filled(old, 3)
    await new.log.append([commit("theirs", "their-1")])
    with pytest.raises(ConfigurationError, match=r"lacks .theirs, for one.: it is another service"):
        await copy(old, new).finish()
    assert await new.log.fenced() == ""
    assert [stored.commit.id for stored in await everything(new)] == ["theirs"]
    empty = place("an empty place")
    await copy(new, empty, "theirs").follow()
    with pytest.raises(ConfigurationError, match="the log of 'theirs' is being copied to"):
        await copy(old, empty).follow()


async def test_a_log_is_not_moved_to_itself(old: LogPlace) -> None:
    await filled(old, 3)
    with pytest.raises(ConfigurationError, match="are the same log"):
        await copy(old, old._replace(name="by another name")).finish()
    assert await takes(old)


async def test_a_move_is_given_up_until_the_new_log_has_taken_something(
    old: LogPlace, new: LogPlace
) -> None:
    await filled(old, 3)
    assert (await copy(old, new).abandon()).state == "stays"
    await copy(old, new).finish()
    assert (await copy(old, new).abandon()).state == "stays"
    assert await takes(old)
    assert not await takes(new)
    await copy(old, new).finish()
    assert await takes(new)
    with pytest.raises(ConfigurationError, match=r"has taken commits since.*copy it back"):
        await copy(old, new).abandon()
    assert not await takes(old)
    assert await takes(new)


async def test_of_two_copies_the_later_one_goes_on(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(old, 3)
    first, second = copy(old, new), copy(old, new)
    rest = first._rest

    async def overtaken(*given: Any) -> None:
        await rest(*given)
        await second.follow()

    monkeypatch.setattr(first, "_rest", overtaken)
    with pytest.raises(ConfigurationError, match=r"another copy .* was begun meanwhile"):
        await first.finish()
    assert not await takes(new)
    assert (await second.finish()).state == "moved"


async def test_what_was_published_meanwhile_is_not_published_by_the_new_log(
    old: LogPlace, new: LogPlace
) -> None:
    began = clock.now() - timedelta(hours=1)
    for n in range(2500):
        await old.log.append([commit(f"c{n}", f"job-{n}", time=began)])
    await copy(old, new).follow()
    assert len(await new.log.pending(FAR_OFF, 9999)) == 2500
    await old.log.confirmed([f"c{n}" for n in range(2499)])
    await copy(old, new).finish()
    assert [one.id for one in await new.log.pending(FAR_OFF, 9999)] == ["c2499"]


async def test_marks_of_handled_events_go_over(old: LogPlace, new: LogPlace) -> None:
    async def nothing(session: Any) -> Sequence[Commit]:
        return ()

    await filled(old, 3)
    for n in range(1500):
        await old.effects.once(f"mails/{n:04}", nothing)
    await copy(old, new).follow()
    await old.effects.once("mails/last", nothing)
    await copy(old, new).finish()
    assert len(await new.effects.marks("", 9999)) == 1501
    assert await new.effects.once("mails/last", nothing) is None
    with pytest.raises(StoreUnavailable):
        await old.effects.once("mails/new", nothing)


async def test_the_mark_of_a_handler_that_took_long_goes_over(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the time at which the handler began, and is seen once it has ended."""
    await filled(old, 3)
    fence = old.log.fence

    async def waits_for_it(note: str) -> None:
        began = clock.now() - timedelta(minutes=4)
        cast(MemoryEffects, old.effects)._handled["mails/slow"] = began
        await fence(note)

    monkeypatch.setattr(old.log, "fence", waits_for_it)
    await copy(old, new).finish()
    assert await new.effects.marks("", 10) == ["mails/slow"]


def with_state(id: str, stream: str, version: int) -> Commit:
    state = Snapshot(stream, version, "1", {"status": id})
    return commit(id, stream, version, time=clock.now())._replace(state=state)


async def test_states_go_over_with_their_commits(
    old: LogPlace, new: LogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def states(place: LogPlace) -> list[Snapshot]:
        return await place.log.states("order", {}, 999)

    await filled(old, 3)
    for n in range(450):
        await old.log.append([with_state(f"o{n}", f"order-{n:03}", 1)])
    await copy(old, new).follow()
    assert await states(new) == await states(old)
    await old.log.append([with_state("again", "order-007", 2)])
    await old.log.save_state(Snapshot("order-none", 1, "1", {}))
    behind = copy(old, new)
    rest = behind._rest

    async def meanwhile(*given: Any) -> None:
        late = with_state("late", "order-008", 2)
        await old.log.import_commits([StoredCommit(late, False)])
        assert late.state is not None
        await old.log.save_state(late.state)
        await rest(*given)

    monkeypatch.setattr(behind, "_rest", meanwhile)
    await behind.finish()
    assert len(await states(new)) == 451
    assert await states(new) == await states(old)
    await new.log.forget_states("order")
    await copy(new, old).finish()
    assert await states(old) == []


async def test_commands_go_on_coming_in_and_each_is_in_one_log_once(
    old: LogPlace, new: LogPlace
) -> None:
    await filled(old, 300)
    done: dict[str, LogPlace] = {}
    moved = asyncio.Event()

    async def client(name: str) -> None:
        for n in range(60):
            one = commit(f"{name}-{n}", f"{name}-1", n + 1, time=clock.now())
            while one.id not in done:
                for target in (old, new):
                    try:
                        await target.log.append([one])
                        done[one.id] = target
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.01)
            if n == 40:
                await moved.wait()
            await asyncio.sleep(0)

    async def move() -> None:
        await copy(old, new).finish()
        moved.set()

    await asyncio.gather(*[client(f"client{n}") for n in range(10)], move())
    assert len(done) == 600
    for n in range(10):
        stream = await new.log.read(f"client{n}-1")
        assert [one.first for one in stream] == [*range(1, 61)]
    assert {place.name for place in done.values()} == {"the old place", "the new place"}


async def test_the_progress_is_reported(old: LogPlace, new: LogPlace) -> None:
    await filled(old)
    reported: list[tuple[str, int, int]] = []
    await LogCopy("jobs", old, new, lambda *given: reported.append(given)).finish()
    assert ("copying", 500, 1202) in reported
    assert ("comparing", 1000, 1202) in reported
    assert [phase for phase, _, _ in reported][-2:] == ["copying the rest", "comparing"]
