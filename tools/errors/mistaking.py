"""What is declared of another kind than it is to be: of these, a type checker tells too."""

from typing import Any

from bus import (
    Aggregate,
    Bus,
    Duty,
    Event,
    Index,
    Projection,
    Router,
    Settings,
    Update,
    Worker,
    signals,
)
from tools.errors.bank import Account, AccountOpened, BalanceView
from tools.errors.entries import Section

mistaken = Section(
    "What is of another kind than it is to be",
    "Told where it is written. A type checker tells most of these before.",
)
SECTIONS = [mistaken]


@mistaken("ConfigurationError: Opened: schema='2'")
def a_schema_that_is_no_number() -> None:
    schema: Any = "2"

    class Opened(Event, schema=schema): ...


@mistaken("ConfigurationError: its class takes no formerley=")
def an_option_of_a_class_that_there_is_none_of() -> None:
    class Opened(Event, formerley=["AccountCreated"]): ...


@mistaken("ConfigurationError: upcast() is called with data, before there is an object")
def an_upcast_that_is_no_class_method() -> None:
    class Opened(Event, schema=2):
        def upcast(self, data: Any, schema: int) -> Any:  # type: ignore[override]
            return data


@mistaken("ConfigurationError: upcast() is called with two by position, the data and the schema")
def an_upcast_without_the_schema() -> None:
    class Opened(Event, schema=2):
        @classmethod
        def upcast(cls, data: Any) -> Any:  # type: ignore[override]
            return data


@mistaken(
    "ConfigurationError: Wallet: events=<class 'bank.AccountOpened'>: write a list of classes of"
)
def events_of_an_aggregate_that_are_no_list() -> None:
    events: Any = AccountOpened

    class Wallet(Aggregate, events=events): ...


@mistaken("ConfigurationError: Wallet: snapshot_every='100'")
def snapshots_after_no_number_of_events() -> None:
    every: Any = "100"

    class Wallet(Aggregate, snapshot_every=every): ...


@mistaken("ConfigurationError: concurrency=0")
def a_router_that_would_run_nothing() -> None:
    Router("mails", concurrency=0)


@mistaken("ConfigurationError: time_limit=0")
def a_time_limit_that_has_passed_already() -> None:
    Router("mails", time_limit=0)


@mistaken("ConfigurationError: retry=3: give one RetryPolicy")
def a_number_of_tries_in_place_of_a_policy() -> None:
    retry: Any = 3
    Router("mails", retry=retry)


@mistaken("ConfigurationError: indexes=['owner']: write a list of Index")
def indexes_that_are_names() -> None:
    indexes: Any = ["owner"]
    Projection("balances", of=[Account], view=BalanceView, indexes=indexes)


@mistaken("ConfigurationError: an index of these fields is listed before it; take one out")
def an_index_that_is_listed_twice() -> None:
    by_owner = Index((("owner", 1),))
    Projection("balances", of=[Account], view=BalanceView, indexes=[by_owner, by_owner])


@mistaken("ConfigurationError: on(key=...): 'owner' cannot be called")
def a_key_that_is_the_name_of_a_field() -> None:
    key: Any = "owner"
    owners = Projection("owners", of=[Account], view=BalanceView)

    @owners.on(AccountOpened, key=key)
    def opened(event: AccountOpened) -> Update:
        return {"$inc": {"accounts": 1}}


@mistaken("ConfigurationError: routers= is of type Router")
def a_router_that_is_in_no_list() -> None:
    mails: Any = Router("mails")
    Bus("bank", routers=mails, settings=Settings.in_memory())


@mistaken("ConfigurationError: it is async, and nobody would await it; write `def`")
def an_async_listener() -> None:
    async def count(run: signals.CommandHandled) -> None: ...

    bus = Bus("bank", settings=Settings.in_memory())
    bus.listen(signals.CommandHandled, count)


@mistaken("ConfigurationError: it takes (), and is called with the signal alone")
def a_listener_that_takes_nothing() -> None:
    count: Any = lambda: None  # noqa: E731
    bus = Bus("bank", settings=Settings.in_memory())
    bus.listen(signals.CommandHandled, count)


@mistaken("ConfigurationError: Bus('bank').listen(CommandHandled, 'count'): it cannot be called")
def the_name_of_a_listener() -> None:
    listener: Any = "count"
    bus = Bus("bank", settings=Settings.in_memory())
    bus.listen(signals.CommandHandled, listener)


@mistaken("ConfigurationError: it is not a kind of signal; `bus.signals` has them")
def listening_to_a_message() -> None:
    kind: Any = AccountOpened
    bus = Bus("bank", settings=Settings.in_memory())
    bus.listen(kind, print)


@mistaken("ConfigurationError: Worker(duties=[...]): run= of 'prices' is")
async def a_duty_that_is_not_async(bus: Bus) -> None:
    def keep_prices() -> None: ...

    function: Any = keep_prices
    Worker(bus, duties=[Duty("prices", function)])
