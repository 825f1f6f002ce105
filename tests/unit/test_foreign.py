"""Following: what is declared, how queues are bound, what is asked when, what is taken for true."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Event,
    Projection,
    Repository,
    Router,
    Settings,
)
from bus.cli.main import app
from bus.codec import check_topic, event_frames, followed_commit
from bus.common import clock
from bus.errors import InvalidMessage
from bus.following.monitor import Turns
from bus.following.protocol import AskPart, AskStreams, TellPart, kinds_of, word_in
from bus.following.receiver import _advanced
from bus.messages import Envelope
from bus.read.foreign import Progress
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryEventLog
from bus.stores.memory.log import MemoryFollowedLog
from bus.stores.routed import RoutedLog
from bus.testing.contracts.event_log_contract import TIME, commit
from bus.testing.contracts.followed_log_contract import event
from bus.transports.base import Frame
from bus.transports.topology import Binding, handler_queue, projection_queues
from handlers import app as app_of_both
from handlers import applications_app, jobs_app


class Paid(Event):
    amount: int


class Purse(Aggregate, events=[Paid]):
    pass


class Order(Aggregate, events=[Paid]):
    pass


class View(BaseModel):
    id: str


class Pay(Command):
    purse_id: str


def purses(*kinds: type[Aggregate]) -> Projection[View]:
    return Projection("purses", of=kinds or [Purse], view=View)


def shop(foreign: dict[str, str], projection: Projection[View] | None = None) -> Bus:
    settings = Settings.in_memory()
    return Bus("shop", projections=[projection or purses()], foreign=foreign, settings=settings)


@pytest.mark.parametrize(
    ("foreign", "told"),
    [
        ({"Purse!": "bank"}, "not a valid category"),
        ({"purse": "The Bank"}, "cannot be a service's name"),
        ({"purse": "shop"}, "is this service itself"),
        ({"shop": "bank"}, "what this service publishes itself"),
        ({"purses": "bank"}, "has no use here"),
    ],
)
def test_what_cannot_be_followed_is_refused(foreign: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        shop(foreign)


def test_a_category_is_own_or_foreign_and_not_both() -> None:
    router = Router("payments")

    @router.command
    async def pay(command: Pay, purses: Repository[Purse]) -> None:
        """It would write into another service's stream."""

    with pytest.raises(ConfigurationError, match="belongs to another service"):
        Bus(
            "shop",
            routers=[router],
            projections=[purses()],
            foreign={"purse": "bank"},
            settings=Settings.in_memory(),
        )


def test_a_queue_is_bound_where_each_category_comes_from() -> None:
    (queue,) = projection_queues("shop", "both", ["order", "purse"], 1, {"purse": "bank"})
    assert queue.topics == ("order.#",)
    assert queue.foreign == (Binding("bank", ("purse.#",)),)
    second = projection_queues("shop", "purses", ["purse"], 32, {"purse": "bank"})[1]
    assert second.topics == ()
    assert second.foreign == (Binding("bank", ("purse.*.1", "purse.*.33")),)


def test_a_handler_hears_of_other_services_only_what_is_followed() -> None:
    """Not their faults, nor facts of theirs that are called as ours are."""
    owners = {"purse": "bank", "card": "bank", "crate": "store"}
    queue = handler_queue("shop", "thanks", ["Paid"], owners)
    assert queue.topics == ("*.Paid.*",)
    assert queue.foreign == (
        Binding("bank", ("purse.Paid.*", "card.Paid.*")),
        Binding("store", ("crate.Paid.*",)),
    )


def test_a_service_that_follows_has_a_queue_for_history() -> None:
    names = [queue.name for queue in shop({"purse": "bank"}).runtime.topology.queues]
    assert names == ["shop.commands", "shop.purses", "shop.history.requests", "shop.history.events"]


def test_the_topology_tells_of_what_is_anothers() -> None:
    shown = CliRunner().invoke(app, ["topology", "handlers.applications_app:build"])
    assert "applications.job_replicas\n    jobs.events: job.#\n" in shown.stdout
    as_json = CliRunner().invoke(app, ["topology", "handlers.applications_app:build", "--json"])
    (queue,) = [q for q in json.loads(as_json.stdout)["queues"] if "replicas" in q["name"]]
    assert queue["foreign"] == [["jobs", ["job.#"]]]


def test_two_services_are_wired_from_the_parts_of_the_one() -> None:
    settings = Settings.in_memory()
    one = app_of_both.build(settings).runtime
    two = [root.build(settings).runtime for root in (jobs_app, applications_app)]
    names = sorted(each.name for runtime in two for each in runtime.declared)
    assert sorted([*(each.name for each in one.declared), "commands"]) == names


def arrived(**changes: object) -> Frame:
    (frame,) = event_frames(commit("c", "purse-1", first=3))
    return frame._replace(**changes)  # type: ignore[arg-type]


def test_an_event_is_kept_as_it_came() -> None:
    stored = commit("c", "purse-1", first=3, causation_id="cause", headers={"who": "ada"})
    (frame,) = event_frames(stored)
    kept = followed_commit(frame)
    assert kept.id == "purse-1@3"
    assert kept.events == (Recorded("JobPosted", 1, {"version": 3}, "c:1"),)
    assert event_frames(kept) == [frame]


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b"{"},
        {"body": b"[1]"},
        {"body": b'{"a": NaN}'},
        {"body": b'{"a": %d}' % 2**64},
        {"body": b'{"a": "' + b"x" * 2**20 + b'"}'},
        {"headers": {"stream": "purse-1", "version": 0}},
        {"headers": {"stream": "purse", "version": 1}},
        {"headers": {"stream": "purse-1", "version": 1, "schema": "one"}},
    ],
)
def test_what_could_not_be_read_again_is_not_kept(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        followed_commit(arrived(**changes))


def test_nobody_tells_of_a_category_by_anothers_topic() -> None:
    check_topic(arrived())
    with pytest.raises(InvalidMessage, match="came by the topic"):
        check_topic(arrived(headers={"stream": "order-1", "version": 1}))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("history.askpart", b"{"),
        ("history.askpart", b'{"category": "job"}'),
        ("history.askpart", b'{"category": "job", "service": "Not One; or two"}'),
        ("history.askstreams", b'{"category": "job", "service": "s", "streams": {"job-1": -1}}'),
        ("history.tellpart", b"{}"),
        ("Paid", b"{}"),
    ],
)
def test_what_is_asked_is_checked(name: str, body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        word_in(arrived(name=name, body=body), kinds_of(AskPart, AskStreams))


def part(after: str, place: str, *, is_end: bool = False) -> TellPart:
    return TellPart(
        category="job", after=after, place=place, events=10, is_end=is_end, time=clock.now()
    )


@pytest.mark.parametrize(
    ("after", "place", "plain"),
    [
        ("job-3\x01t", "job-9", ("job-3", "job-9")),
        ("job-\x01t", "job-9", ("", "job-9")),
        ("job-\x01t", "job-\x01t", ("", "")),
        ("job-9\x01t", "job-9\x01t", ("job-9", "job-9")),
    ],
)
def test_a_token_within_a_place_is_told_from_it(
    after: str, place: str, plain: tuple[str, str]
) -> None:
    told = part(after, place).without_mark()
    assert (told.after, told.place, told.token) == (*plain, "t")


async def test_a_place_with_a_token_is_where_the_place_is() -> None:
    """So that an owner of any release tells the same streams after it."""
    log = MemoryEventLog()
    for stream in ("jab-1", "job-!", "job-1", "job-10", "job-2", "job2-1"):
        await log.append([commit(f"c{stream}", stream)])

    async def beyond(after: str) -> list[str]:
        pages = [list(page) async for page in log.scan_streams("job", after)]
        return [one.stream for page in pages for one in page]

    assert await beyond("job-\x01t") == await beyond("") == ["job-!", "job-1", "job-10", "job-2"]
    assert await beyond("job-1\x01t") == await beyond("job-1") == ["job-10", "job-2"]


def test_a_part_counts_where_what_precedes_it_is_here() -> None:
    start = Progress("job")
    first = _advanced(part("", "job-3"), start)
    assert (first.place, first.events, first.is_done) == ("job-3", 10, False)
    assert _advanced(part("job-5", "job-9", is_end=True), first) == first
    again = _advanced(part("", "job-3"), first)
    assert (again.place, again.events) == ("job-3", 10)
    done = _advanced(part("job-3", "job-9", is_end=True), first)
    assert (done.place, done.events, done.is_done) == ("job-9", 20, True)
    assert _advanced(part("job-9", "job-99"), done) == done


def test_the_pauses_between_questions_grow_until_something_comes_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    turns = Turns()
    asked = []
    for second in range(200):
        now = 1000.0 + second
        if turns.is_due("part/job", "" if second < 150 else "job-9", 5.0, longest=60.0):
            asked.append(second)
    assert asked == [0, 5, 15, 35, 75, 135, 155, 165, 185]


async def collected(scan: AsyncIterator[Commit]) -> Sequence[Commit]:
    return [one async for one in scan]


async def test_both_logs_are_scanned_in_the_order_of_their_times() -> None:
    own, followed = MemoryEventLog(), MemoryFollowedLog()
    mine = [
        commit(f"c{n}", f"order-{n}", time=TIME + timedelta(seconds=2 * n + 1)) for n in range(5)
    ]
    theirs = [event(f"purse-{n}", 1, seconds=2 * n) for n in range(8)]
    for one in mine:
        await own.append([one])
    await followed.keep(theirs)
    log = RoutedLog(own, followed, {"purse"})
    both = sorted([*mine, *theirs], key=lambda one: one.time)
    assert await collected(log.scan(["order", "purse"])) == both
    assert await collected(log.scan(["purse"])) == theirs
    assert await collected(log.scan(["order"], mine[3].time)) == mine[3:]
    assert sorted(await collected(log.arrived(["order", "purse"]))) == sorted([*mine, *theirs])
    assert await log.count(["order", "purse"]) == 13
    assert await log.read("purse-1") == [theirs[1]]
    assert await log.read("order-1") == [mine[1]]
    assert await log.split("purse", 2) == ["purse-4"]


def test_an_event_of_another_service_is_handled_though_an_own_one_has_its_id() -> None:
    dispatcher = shop({"purse": "bank"}).runtime.dispatcher
    own, theirs = (
        Envelope(Paid(amount=1), "order-1:1", clock.now(), "c", None, stream, 1)
        for stream in ("order-7", "purse-7")
    )
    assert dispatcher._identity(own) != dispatcher._identity(theirs)
