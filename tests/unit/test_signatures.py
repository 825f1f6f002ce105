"""Handlers may be whatever Python calls a function; what cannot run is refused where it stands."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps
from typing import Annotated, Any, Generic, NewType, Optional, Protocol, TypeVar

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from bus import (
    Aggregate,
    Bus,
    Command,
    ConfigurationError,
    Documents,
    Envelope,
    Event,
    Outbox,
    Projection,
    Query,
    Receipt,
    Repository,
    Router,
    Settings,
    Update,
)
from bus.testing import given
from tests.unit import annotated_as_text
from tests.unit.annotated_as_text import Enter

Value = TypeVar("Value")


class Opened(Event):
    name: str = ""


class Closed(Event):
    pass


class Shop(Aggregate):
    name: str = ""

    def apply(self, event: Event) -> None:
        match event:
            case Opened():
                self.name = event.name
            case Closed():
                pass


class Open(Command):
    name: str = "Ada"


class Ask(Query[str]):
    pass


class Mailer(Protocol):
    def mail(self, text: str) -> None: ...


class Postbox:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def mail(self, text: str) -> None:
        self.sent.append(text)


Address = NewType("Address", str)
Limit = Annotated[int, "how many"]


class View(BaseModel):
    id: str
    name: str = ""


class Other(BaseModel):
    id: str


async def carried_out(
    function: Callable[..., Awaitable[Any]], command: Command | None = None, **provide: Any
) -> Any:
    """The result of a command, `Open` by default, handled by the function alone."""
    router = Router("shops")
    router.command(function)
    given_by_type = {
        Mailer: provide.get("mailer"),
        Address: "a@b",
        Limit: 3,
    }
    given_by_type = {kind: value for kind, value in given_by_type.items() if value is not None}
    async with Bus(
        "shops", routers=[router], provide=given_by_type, settings=Settings.in_memory()
    ) as bus:
        return (await bus.execute(command or Open())).result


# What works


async def by_keyword(
    command: Open, *, shops: Repository[Shop], envelope: Envelope, address: Address
) -> str:
    shop = Shop("s1")
    shop.record(Opened(name=command.name))
    shops.add(shop)
    return f"{envelope.name} {address}"


async def test_dependencies_may_be_taken_by_keyword_alone() -> None:
    assert await carried_out(by_keyword) == "Open a@b"


async def by_position(command: Open, /, address: Address) -> str:
    return address


async def test_a_message_may_be_taken_by_position_alone() -> None:
    assert await carried_out(by_position) == "a@b"


async def with_defaults(
    command: Open,
    size: int = 7,
    address: Address = Address("none"),
    *,
    mailer: Mailer | None = None,
    documents: Documents[View] | None = None,
) -> str:
    return f"{size} {address} {type(mailer).__name__} {documents}"


async def test_what_nobody_provides_keeps_its_default_and_what_somebody_provides_does_not() -> None:
    assert await carried_out(with_defaults) == "7 a@b NoneType None"
    assert await carried_out(with_defaults, mailer=Postbox()) == "7 a@b Postbox None"


async def optional(command: Open, mailer: Optional[Mailer]) -> str:  # noqa: UP045
    return type(mailer).__name__


async def test_an_optional_dependency_is_provided_as_its_type() -> None:
    assert await carried_out(optional, mailer=Postbox()) == "Postbox"


async def test_an_optional_dependency_without_a_default_has_to_be_provided() -> None:
    with pytest.raises(
        ConfigurationError, match=r"optional: parameter 'mailer': nobody provides Mailer"
    ):
        await carried_out(optional)


async def annotated(command: Annotated[Open, "the one"], limit: Limit) -> int:
    return limit


async def test_an_annotated_type_is_provided_as_it_is_written() -> None:
    assert await carried_out(annotated) == 3


async def annotated_unhashably(
    command: Open, address: Annotated[Address, ["no key of a dict"]]
) -> str:
    return address


async def test_an_annotated_type_that_is_provided_nowhere_is_provided_as_the_type_within() -> None:
    assert await carried_out(annotated_unhashably) == "a@b"


async def test_a_protocol_is_provided_as_itself() -> None:
    async def mails(command: Open, mailer: Mailer) -> None:
        mailer.mail(command.name)

    postbox = Postbox()
    await carried_out(mails, mailer=postbox)
    assert postbox.sent == ["Ada"]


async def takes_a_limit(command: Open, limit: int, address: Address) -> str:
    return f"{limit} {address}"


async def test_a_partial_is_a_handler_that_lacks_what_was_given() -> None:
    assert await carried_out(partial(takes_a_limit, limit=9)) == "9 a@b"


async def test_two_partials_of_one_function_are_told_apart_from_nobody_else() -> None:
    router = Router("shops")
    router.command(partial(takes_a_limit, limit=9))
    with pytest.raises(ConfigurationError, match=r"takes_a_limit: Open is handled by .*_a_limit"):
        router.command(partial(takes_a_limit, limit=8))


class Opening:
    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    async def __call__(self, command: Open, *, address: Address) -> str:
        return f"{self._greeting} {address}"

    async def method(self, command: Open, address: Address) -> str:
        return f"method {self._greeting} {address}"

    @classmethod
    async def of_class(cls, command: Open, address: Address) -> str:
        return f"{cls.__name__} {address}"

    @staticmethod
    async def of_nobody(command: Open, address: Address) -> str:
        return address


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (Opening("hello"), "hello a@b"),
        (partial(Opening("hello")), "hello a@b"),
        (Opening("hello").method, "method hello a@b"),
        (partial(Opening.method, Opening("bye")), "method bye a@b"),
        (Opening.of_class, "Opening a@b"),
        (Opening.of_nobody, "a@b"),
        (vars(Opening)["of_nobody"], "a@b"),
    ],
)
async def test_objects_and_methods_are_handlers(
    function: Callable[..., Awaitable[Any]], result: str
) -> None:
    assert await carried_out(function) == result


def test_an_object_is_named_by_its_class() -> None:
    router = Router("shops")
    router.command(Opening("hello"))
    assert router.handlers[0].name == f"{__name__}.Opening"


def loud(function: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[str]]:
    @wraps(function)
    async def wrapper(*values: Any, **named: Any) -> str:
        return (await function(*values, **named)).upper()

    return wrapper


async def test_a_decorated_function_is_a_handler() -> None:
    assert await carried_out(loud(loud(by_position))) == "A@B"
    assert await carried_out(loud(by_keyword)) == "OPEN A@B"
    assert await carried_out(loud(Opening("hello").method)) == "METHOD HELLO A@B"


def in_a_coroutine(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @wraps(function)
    async def wrapper(*values: Any, **named: Any) -> Any:
        return function(*values, **named)

    return wrapper


async def test_a_function_that_is_not_async_is_one_within_a_wrapper_that_is() -> None:
    def open_shop(command: Open, address: Address) -> str:
        return address

    assert await carried_out(in_a_coroutine(open_shop)) == "a@b"


async def test_annotations_may_be_text() -> None:
    assert await carried_out(annotated_as_text.open_shop, Enter()) == "Outbox"


class Wrapped(Command, Generic[Value]):
    value: Value


async def test_a_generic_message_is_handled_with_its_parameters() -> None:
    router = Router("generic")

    @router.command
    async def add(command: Wrapped[int]) -> int:
        return command.value + 1

    async with Bus("generic", routers=[router], settings=Settings.in_memory()) as bus:
        assert (await bus.execute(Wrapped[int](value=1))).result == 2


Openings = TypeAliasType("Openings", Annotated[Opened | Closed, "whatever happens to a shop"])


async def test_a_named_type_is_what_it_names() -> None:
    router = Router("shops")

    @router.event
    async def hear(event: Openings) -> None: ...

    assert router.handlers[0].messages == (Opened, Closed)


async def test_queries_take_what_commands_take() -> None:
    router = Router("shops")

    @router.query
    async def ask(query: Ask, *, address: Address, documents: Documents[View] | None = None) -> str:
        return f"{address} {documents}"

    async with Bus(
        "shops", routers=[router], provide={Address: "a@b"}, settings=Settings.in_memory()
    ) as bus:
        assert await bus.query(Ask()) == "a@b None"
        assert await bus.query(Ask(), after=Receipt("", {"shop-1": 1})) == "a@b None"


async def hear(event: Opened, note: Callable[[str], None], *, outbox: Outbox) -> None:
    note(event.name)
    outbox.publish(Closed())


def test_event_handlers_take_what_commands_take() -> None:
    heard: list[str] = []
    handler = partial(hear, note=heard.append)
    given(Shop, "s1").when_handled(Opened(name="Bea"), by=handler).then(Closed())
    assert heard == ["Bea"]


def folded(function: Callable[..., Any]) -> dict[str, Any]:
    projection = Projection("shops", of=[Shop], view=View)
    projection.on(Opened)(function)
    return dict(given(Shop, "s1", Opened(name="Ada")).project(projection).documents)


def projected(event: Opened, *, envelope: Envelope, prefix: str = "the ") -> Update:
    return {"$set": {"name": f"{prefix}{event.name} {envelope.version}"}}


async def projected_by_itself(
    event: Opened, greeting: str = "", *, documents: Documents[View]
) -> None:
    await documents.update("s1", {"$set": {"name": f"{greeting}{event.name}"}})


class Projecting:
    def __call__(self, event: Opened) -> Update:
        return {"$set": {"name": f"object {event.name}"}}

    async def method(self, event: Opened, documents: Documents[View]) -> None:
        await documents.update("s1", {"$set": {"name": f"method {event.name}"}})


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (projected, "the Ada 1"),
        (partial(projected, prefix="a "), "a Ada 1"),
        (projected_by_itself, "Ada"),
        (partial(projected_by_itself, greeting="hi "), "hi Ada"),
        (Projecting(), "object Ada"),
        (Projecting().method, "method Ada"),
    ],
)
def test_projections_take_what_routers_take(function: Callable[..., Any], name: str) -> None:
    assert folded(function) == {"s1": {"name": name}}


# What is refused


async def anything(command: Open, *values: Any) -> None: ...


async def named_anything(command: Open, **values: Any) -> None: ...


async def yielding(command: Open) -> AsyncIterator[int]:
    yield 1


@functools.cache
async def cached(command: Open) -> None: ...


def handing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*values: Any, **named: Any) -> Any:
        return function(*values, **named)

    return wrapper


def nameless(function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*values: Any, **named: Any) -> Any:
        return await function(*values, **named)

    return wrapper


def taking_less(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def wrapper(command: Open) -> Any:
        return await function(command, Address("its own"))

    return wrapper


async def of_two(command: Open, repository: Repository[Any]) -> None: ...


async def bare(command: Open, repository: Repository) -> None: ...  # type: ignore[type-arg]


async def bare_documents(command: Open, documents: Documents) -> None: ...  # type: ignore[type-arg]


REFUSED: list[tuple[Any, str]] = [
    (anything, r"anything: nothing can be given to \*values.*functools.wraps"),
    (named_anything, r"named_anything: nothing can be given to \*\*values"),
    (yielding, "yielding: it yields, .* let it return"),
    (cached, "cached: what its decorator makes of it is not async any more"),
    (handing_on(by_position), "by_position: what its decorator makes of it is not async any more"),
    (nameless(by_position), r"wrapper: nothing can be given to \*values.*functools.wraps"),
    (taking_less(by_position), "by_position: its decorator says .* let the decorator take"),
    (Opening, "Opening is a class, .* register an object"),
    (vars(Opening)["of_class"], r"of_class is a class method .*router.command\(Class.method\)"),
    (Opening.method, "method: 'self' is given by nobody, .* the method of an object"),
    (of_two, r"of_two: parameter 'repository': .* as in Repository\[Account\]"),
    (bare, r"bare: .* as in Repository\[Account\]"),
    (bare_documents, r"bare_documents: .* as in Documents\[AccountView\]"),
    (
        annotated_as_text.not_imported,
        "not_imported: name 'Decimal' .* outside of `if TYPE_CHECKING",
    ),
    (annotated_as_text.misspelt, "misspelt: .*no attribute 'Opend'"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
async def test_a_handler_that_could_not_run_is_refused(function: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        await carried_out(function)


def yields(event: Opened) -> Iterator[tuple[str, Update]]:
    yield "s1", {}


def returns_pairs(event: Opened) -> Iterator[tuple[str, Update]]:
    return iter(())


def returns_text(event: Opened) -> str:
    return "Ada"


async def reads_another(event: Opened, documents: Documents[Other]) -> None: ...


def reads_at_once(event: Opened, documents: Documents[View]) -> None: ...


def takes_what_it_likes(event: Opened, address: Address) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (yields, "yields: it yields"),
        (returns_pairs, r"returns_pairs: it returns .*Iterator.* list of \(key, change\) pairs"),
        (returns_text, "returns_text: it returns <class 'str'>"),
        (reads_another, r"reads_another: .* is .*Other\]; .* Documents\[View\]"),
        (reads_at_once, r"reads_at_once: .* when async, Documents\[View\]"),
        (takes_what_it_likes, "takes_what_it_likes: .* a projection's handler takes"),
        (annotated_as_text.projected, "projected: name 'Decimal' .* outside of `if TYPE_CHECKING"),
    ],
)
def test_a_projections_handler_that_could_not_run_is_refused(
    function: Callable[..., Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        folded(function)


@pytest.mark.parametrize("events", [(), (Event,), (Open,), (projected,), (Opened | Closed,)])
def test_a_projection_is_on_classes_of_events(events: Any) -> None:
    projection = Projection("shops", of=[Shop], view=View)
    with pytest.raises(ConfigurationError, match=r"'shops': on\(.*\) names no event; .*one by one"):
        projection.on(*events)
