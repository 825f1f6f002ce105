"""What an aggregate is stored by (id, version, category, what it recorded) is nobody's to set."""

from collections import deque
from dataclasses import field
from typing import Any

import pytest
from pydantic import Field

from bus import Aggregate, Bus, Command, ConfigurationError, Event, Repository, Router, Settings


class Released(Event):
    version: int
    changes: list[str] = []  # noqa: RUF012


class Noted(Event):
    note: str


class Release(Command):
    version: int


def setting(name: str, value: Any) -> type[Aggregate]:
    """A class whose `apply` sets an attribute of the aggregate's own."""

    class App(Aggregate, events=[Released]):
        def apply(self, event: Event) -> None:
            setattr(self, name, value)

    return App


@pytest.mark.parametrize(
    ("name", "value"),
    [("version", 7), ("recorded", []), ("recorded", "x"), ("recorded_data", [])],
)
def test_an_apply_that_sets_what_is_counted_is_refused_as_it_records(name: str, value: Any) -> None:
    app = setting(name, value)("a")
    with pytest.raises(ConfigurationError, match=r"App: '(version|recorded)' is a name of the agg"):
        app.record(Released(version=7))


@pytest.mark.parametrize(
    ("name", "value"), [("id", "b"), ("category", "shoes"), ("events", []), ("snapshot_every", 1)]
)
async def test_one_that_sets_what_it_is_found_by_is_refused_before_it_is_stored(
    name: str, value: Any
) -> None:
    kind = setting(name, value)
    router = Router("apps")

    async def release(command: Release, apps: Repository[kind]) -> None:  # type: ignore[valid-type]
        app = kind("a")
        apps.add(app)
        app.record(Released(version=command.version))

    router.command(release)
    async with Bus("apps", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(ConfigurationError, match=f"App: '{name}' is a name of the aggregate's"):
            await bus.execute(Release(version=1))
        assert await bus.runtime.event_log.read("app-a") == []
        assert await bus.runtime.event_log.categories() == []


def test_an_apply_that_records_is_refused() -> None:
    class Plain(Aggregate, events=[Released]):
        def apply(self, event: Event) -> None:
            match event:
                case Noted():
                    self.record(Released(version=1))

    with pytest.raises(ConfigurationError, match=r"Plain: its apply\(\) records an event, and wou"):
        Plain.events()


def test_an_apply_that_records_by_a_method_of_its_own_is_refused_as_it_does() -> None:
    class Hidden(Aggregate, events=[Released]):
        def apply(self, event: Event) -> None:
            match event:
                case Noted():
                    self.release()

        def release(self) -> None:
            self.record(Released(version=1))

    with pytest.raises(ConfigurationError, match=r"Hidden: its apply\(\) records an event, and wo"):
        Hidden("a").record(Noted(note="x"))


def test_an_init_without_that_of_the_base_is_refused_with_the_remedy() -> None:
    class Rootless(Aggregate, events=[Noted]):
        def __init__(self, id: str) -> None:
            self.count = 0

    with pytest.raises(ConfigurationError, match=r"Rootless: .* begin it with super\(\).__init__"):
        Rootless("a").record(Noted(note="x"))


@pytest.mark.parametrize("empty", [[], {}, set(), deque(), bytearray()])
def test_a_private_table_that_is_to_be_filled_is_each_aggregates_own(empty: Any) -> None:
    kind: Any = type("Lines", (Aggregate,), {"_lines": empty})
    one, other = kind("a"), kind("b")
    assert one._lines == empty
    assert one._lines is not other._lines
    assert type(one._lines) is type(empty)


def test_a_private_table_of_the_class_stays_one() -> None:
    kind: Any = type("Priced", (Aggregate,), {"_prices": {"a": 1}})
    assert kind("a")._prices is kind("b")._prices


@pytest.mark.parametrize("default", [field(repr=False), Field(repr=False)])
def test_a_field_without_a_default_is_refused_where_the_class_is_made(default: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'owner' is a field without a default"):
        type("Owned", (Aggregate,), {"__annotations__": {"owner": str}, "owner": default})
