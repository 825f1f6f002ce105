"""What is declared can run, or the bus says that it cannot."""

import re
import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Event,
    NoHandler,
    Outbox,
    Projection,
    Query,
    Repository,
    Router,
    Settings,
    Update,
)
from bus.assembly.served import never_served
from bus.testing import given, not_listed
from reference import app, handlers

Value = TypeVar("Value")


class JobEvent(Event):
    job_id: str = ""


class JobPosted(JobEvent):
    pass


class JobRevised(JobEvent):
    pass


class Job(Aggregate, events=[JobPosted, JobRevised]):
    def apply(self, event: Event) -> None:
        match event:
            case JobEvent():
                pass


class Foreign(Aggregate):
    pass


class JobView(BaseModel):
    id: str


def bus_of(*declared: Router | Projection[Any]) -> Bus:
    return Bus(
        "jobs",
        routers=[one for one in declared if isinstance(one, Router)],
        projections=[one for one in declared if isinstance(one, Projection)],
        settings=Settings.in_memory(),
    )


def said_of(*declared: Router | Projection[Any]) -> list[str]:
    with capture_logs() as lines:
        bus_of(*declared)
    return [line["reason"] for line in lines if line["event"] == "never_served"]


def listening(kind: Any, name: str = "hearing") -> Router:
    router = Router(name)

    async def hear(event: Any) -> None: ...

    hear.__annotations__["event"] = kind
    router.event(hear)
    return router


def projecting(*events: type[Event], of: Any = Job) -> Projection[JobView]:
    projection = Projection("job_board", of=[of], view=JobView)

    @projection.on(*events)
    def change(event: Event) -> Update:
        return {}

    return projection


class Change(Command):
    job_id: str = ""


class Rename(Change):
    pass


class Ask(Query[int]):
    pass


class AskMore(Ask):
    pass


def changing(*kinds: type[Command]) -> Router:
    router = Router("changing")
    for kind in kinds:

        async def change(command: Any) -> None: ...

        change.__annotations__["command"] = kind
        router.command(change)
    return router


def taking(aggregate: type[Aggregate]) -> Router:
    router = Router("taking")

    async def take(command: Rename, repository: Any) -> None: ...

    take.__annotations__["repository"] = Repository[aggregate]  # type: ignore[valid-type]
    router.command(take)
    return router


def asking(*kinds: type[Query[int]]) -> Router:
    router = Router("asking")
    for kind in kinds:

        async def ask(query: Any) -> int:
            return 1

        ask.__annotations__["query"] = kind
        router.query(ask)
    return router


# A base class of messages


def test_an_event_handler_of_a_base_class_is_refused() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"hear handles JobEvent, which is a base class: .*\(JobPosted, JobRevised\)",
    ):
        bus_of(listening(JobEvent), taking(Job))


def test_an_event_handler_that_names_some_of_the_subclasses_is_refused_by_the_others() -> None:
    with pytest.raises(ConfigurationError, match=r"a base class: .*\(JobRevised\)"):
        bus_of(listening(JobEvent | JobPosted), taking(Job))


def test_what_another_router_handles_is_not_handled_by_this_one() -> None:
    with pytest.raises(ConfigurationError, match=r"a base class: .*\(JobPosted, JobRevised\)"):
        bus_of(listening(JobEvent), listening(JobPosted | JobRevised, "others"))


def test_a_subclass_that_only_a_projection_reads_is_known() -> None:
    with pytest.raises(ConfigurationError, match=r"a base class: .*\(JobPosted\)"):
        bus_of(listening(JobEvent), projecting(JobPosted, of=Foreign))


def test_a_subclass_that_a_handler_publishes_is_known() -> None:
    router = listening(JobEvent)

    @router.command
    async def publish(command: Rename, outbox: Outbox) -> None:
        outbox.publish(JobPosted())

    with pytest.raises(ConfigurationError, match=r"a base class: .*\(JobPosted\)"):
        bus_of(router)


@pytest.mark.parametrize("base", [JobPosted, Rename, AskMore])
def test_a_subclass_that_nothing_of_this_bus_names_refuses_no_bus(base: Any) -> None:
    """The module of another service may be imported in this process, or not."""
    other = types.new_class(
        "Other", (base,), exec_body=lambda body: body.update(__module__="other")
    )
    assert other in base.__subclasses__()
    assert said_of(listening(JobPosted), changing(Rename), asking(AskMore)) == []


def test_a_base_class_of_which_nothing_here_names_a_subclass_is_told() -> None:
    (reason,) = said_of(listening(JobEvent))
    assert "hear handles JobEvent, and never runs for its subclasses" in reason
    assert "(JobPosted, JobRevised)" in reason


def test_an_event_handler_that_names_the_base_and_all_subclasses_is_as_it_was() -> None:
    assert said_of(listening(JobEvent | JobPosted | JobRevised)) == []


def test_a_projection_of_a_base_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"change handles JobEvent, which is a base class"):
        bus_of(projecting(JobEvent))


def test_a_handler_may_take_the_base_of_the_events_that_its_projection_names() -> None:
    assert said_of(projecting(JobPosted, JobRevised)) == []


@pytest.mark.parametrize("declared", [changing(Change), asking(Ask)], ids=["command", "query"])
def test_a_handler_of_a_base_class_of_commands_or_queries_is_told(declared: Router) -> None:
    """What is sent of a subclass is refused where it is sent."""
    (reason,) = said_of(declared)
    assert "never runs for its subclasses" in reason


def test_a_command_and_its_subclass_may_have_a_handler_each() -> None:
    assert said_of(changing(Change, Rename), asking(Ask, AskMore)) == []


class Noted(Event, Generic[Value]):
    value: Value


NotedNumber = Noted[int]


def test_a_generic_event_is_no_base_of_itself_with_its_parameters() -> None:
    assert said_of(listening(Noted)) == []


class Note(Command, Generic[Value]):
    value: Value


class Find(Query[int], Generic[Value]):
    value: Value


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (changing(Note), Note[int](value=1)),
        (changing(Note[int]), Note(value=1)),
        (changing(Note[int]), Note[str](value="a")),
        (changing(Change), Rename()),
        (asking(Find), Find[int](value=1)),
        (asking(Find[int]), Find(value=1)),
        (asking(Ask), AskMore()),
    ],
)
async def test_what_is_given_of_another_class_than_is_handled_is_told_which(
    declared: Router, given: Any
) -> None:
    handled = declared.handlers[0].messages[0]
    async with bus_of(declared) as bus:
        with pytest.raises(
            NoHandler,
            match=rf"nobody handles the \w+ {re.escape(type(given).__name__)}: a handler runs for "
            rf"the very class that it names, here {re.escape(handled.__name__)}; give that, or",
        ):
            await (bus.query(given) if isinstance(given, Query) else bus.execute(given))


class Noting(Aggregate):
    def note(self) -> None:
        self.record(Noted[int](value=1))

    def apply(self, event: Event) -> None:
        match event:
            case NotedNumber():  # type: ignore[misc]
                pass


class NotingOtherwise(Aggregate):
    def note(self) -> None:
        self.record(Noted[int](value=1))

    def apply(self, event: Event) -> None:
        match event:
            case Noted():
                pass


def test_an_aggregate_that_names_a_generic_event_with_its_parameters_records_it() -> None:
    given(Noting, "a").when(Noting.note).then(Noted[int](value=1))
    assert said_of(taking(Noting)) == []


def test_an_aggregate_that_names_a_generic_event_alone_is_told_how_to_name_it() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"records Noted\[int\].*; record and name a class .*NotedInt\(Noted\[int\]",
    ):
        NotingOtherwise("a").note()


def test_a_generic_event_with_and_without_parameters_in_one_bus_is_told_to_be_one() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"Noted\[int\] and .*Noted both travel as 'Noted'; name one of the two everywhere",
    ):
        bus_of(listening(Noted), taking(Noting))


class Started(Event):
    pass


class Begun(Started, name="Started"):
    pass


def test_a_subclass_of_the_same_wire_name_is_read_as_the_class_that_is_handled() -> None:
    assert said_of(listening(Started)) == []


def test_a_subclass_in_some_function_is_nobody_elses() -> None:
    class Restarted(Started):
        pass

    assert said_of(listening(Started)) == []
    assert Restarted.wire_name == "Restarted"


def test_a_base_class_that_stands_in_a_function_with_its_subclass_is_one() -> None:
    class Moved(Event):
        pass

    class MovedFar(Moved):
        pass

    (reason,) = said_of(listening(Moved))
    assert "hear handles Moved, and never runs for its subclasses (MovedFar)" in reason
    assert MovedFar.wire_name == "MovedFar"


class Touching(Aggregate):
    def touch(self) -> None:
        self.record(JobPosted())

    def apply(self, event: Event) -> None:
        match event:
            case JobEvent():
                pass


class Listing(Aggregate, events=[JobEvent]):
    pass


@pytest.mark.parametrize("aggregate", [Touching, Listing])
def test_an_aggregate_that_names_a_base_class_is_told_so_when_it_records_a_subclass(
    aggregate: type[Aggregate],
) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"records JobPosted, which its apply\(\) does not .*names its base class JobEvent",
    ):
        aggregate("a1").record(JobPosted())
    given(Job, "j1").when(lambda job: job.record(JobPosted())).then(JobPosted())


def test_an_aggregate_that_names_a_base_class_is_refused_before_it_records_a_subclass() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Touching.touch\(\) records JobPosted, .*its base class JobEvent"
    ):
        bus_of(taking(Touching))


# Declared and never served


def test_a_router_without_handlers_is_told() -> None:
    (reason,) = said_of(Router("empty"), changing(Rename))
    assert "Router('empty') of Bus('jobs') has no handlers; import the modules" in reason


def test_a_projection_without_handlers_is_told() -> None:
    (reason,) = said_of(Projection("job_board", of=[Job], view=JobView))
    assert "Projection('job_board') of Bus('jobs') has no handlers; import" in reason


def test_a_handler_that_comes_after_the_bus_is_refused() -> None:
    router, projection = changing(Rename), projecting(JobPosted)
    bus_of(router, projection)

    async def late(command: Change) -> None: ...

    def later(event: JobRevised) -> Update:
        return {}

    with pytest.raises(ConfigurationError, match=r"late comes too late: .*Router\('changing'\)"):
        router.command(late)
    with pytest.raises(
        ConfigurationError, match=r"later comes too late: .*Projection\('job_board'\)"
    ):
        projection.on(JobRevised)(later)
    bus_of(router, projection)


def test_a_bus_that_was_refused_freezes_nothing() -> None:
    router = changing(Rename)
    with pytest.raises(ConfigurationError):
        bus_of(router, listening(JobEvent), projecting(JobRevised))

    @router.command
    async def change(command: Change) -> None: ...

    bus_of(router)


class module:  # noqa: N801
    Rename = Rename


async def sends(event: JobPosted, outbox: Outbox) -> None:
    for _ in range(2):
        outbox.send(Rename(job_id=event.job_id))


async def sends_from_a_module(event: JobPosted, *, outbox: Outbox) -> None:
    [outbox.send(module.Rename(job_id=one)) for one in event.job_id]


class Sending:
    async def __call__(self, event: JobPosted, outbox: Outbox) -> None:
        outbox.send(Rename())


async def sends_elsewhere(event: JobPosted, outbox: Outbox, other: Any = None) -> None:
    if isinstance(event, Rename):
        outbox.send(Change())
    other.send(Rename())


@pytest.mark.parametrize("function", [sends, sends_from_a_module, Sending()])
def test_a_command_that_is_sent_and_that_nobody_handles_is_told(
    function: Callable[..., Any],
) -> None:
    router = Router("sending")
    router.event(function)
    (reason,) = said_of(router)
    assert "sends Rename through its Outbox, and no router of Bus('jobs') handles it" in reason


@pytest.mark.parametrize("function", [sends, sends_from_a_module, Sending(), sends_elsewhere])
def test_of_a_command_that_somebody_handles_nothing_is_said(function: Callable[..., Any]) -> None:
    router = Router("sending")
    router.event(function)
    assert said_of(router, changing(Change, Rename)) == []


def test_of_a_command_that_goes_elsewhere_nothing_is_said() -> None:
    router = Router("sending")
    router.event(sends_elsewhere)
    (reason,) = said_of(router)
    assert "sends Change" in reason


class Deposited(Event):
    pass


class Forgetful(Aggregate):
    @classmethod
    def open(cls, id: str) -> "Forgetful":
        account = cls(id)
        account.record(JobPosted())
        return account

    def deposit(self) -> None:
        self.record(Deposited())

    def apply(self, event: Event) -> None:
        match event:
            case JobPosted():
                pass


def test_an_event_that_an_aggregate_records_and_could_not_read_back_is_refused() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"Forgetful.deposit\(\) records Deposited, which its apply\(\) does not",
    ):
        bus_of(taking(Forgetful))


def test_an_aggregate_that_reads_what_it_records_is_as_it_was() -> None:
    class Remembering(Forgetful, events=[Deposited]):
        pass

    assert said_of(taking(Remembering)) == []


class Lender(Forgetful, events=[Deposited]):
    def lend(self, journal: Any) -> None:
        journal.record(JobRevised())


def test_what_a_method_records_on_another_object_is_that_objects_own_affair() -> None:
    assert said_of(taking(Lender)) == []


def test_an_event_that_no_stream_of_the_projection_holds_is_told() -> None:
    (reason,) = said_of(projecting(JobPosted, Deposited))
    assert "change handles Deposited" in reason
    assert "Projection('job_board', of=[Job]) hold none" in reason


def test_of_a_category_that_says_nothing_of_its_events_nothing_is_said() -> None:
    assert said_of(projecting(JobPosted, Deposited, of=Foreign)) == []


class OwnReading(Event, name="JobPosted"):
    job_id: str


def test_an_event_that_a_projection_reads_by_a_class_of_its_own_is_recorded_all_the_same() -> None:
    projection: Projection[JobView] = projecting(OwnReading)
    assert list(never_served("jobs", [], [projection])) == []


def test_a_router_that_no_bus_lists_is_found_in_its_package() -> None:
    bus = Bus(
        "shop", routers=app.ROUTERS[1:], projections=app.PROJECTIONS, settings=Settings.in_memory(),
        provide={handlers.Mailer: app.Printer(), handlers.Shop: "the shop"},
    )  # fmt: skip
    assert not_listed(bus, "reference") == ["reference.handlers.orders: Router('ordering')"]
    assert not_listed(app.build(Settings.in_memory()), "reference") == []


def test_a_handler_that_names_what_comes_later_is_taken() -> None:
    router = Router("later")

    @router.event
    async def react(event: JobPosted, outbox: Outbox) -> None:
        outbox.send(made())

    assert said_of(router) == []

    def made() -> Command:
        return Rename()


class Asked:
    """An object that is asked for nothing while a bus is built."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


asked = Asked()


def test_nothing_is_asked_of_objects_while_a_bus_is_built() -> None:
    router = Router("asking")

    @router.event
    async def react(event: JobPosted, outbox: Outbox) -> None:
        outbox.send(asked.command())

    assert said_of(router) == []
