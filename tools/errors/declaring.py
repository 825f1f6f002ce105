"""What is declared: messages, aggregates, routers, projections, and the bus of them all."""

import dataclasses
import threading
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, InstanceOf, PlainSerializer, SecretStr

from bus import (
    Aggregate,
    Bus,
    Event,
    Projection,
    Repository,
    RetryPolicy,
    Router,
    Session,
    Settings,
    Update,
    contracts_of,
)
from tools.errors.bank import (
    Account,
    AccountOpened,
    BalanceView,
    Deposit,
    Deposited,
    GetBalance,
    OpenAccount,
    accounts,
    balances,
)
from tools.errors.entries import Section

messages = Section("Messages")
aggregates = Section("Aggregates")
handlers = Section("Handlers and routers", "Told where the decorator stands.")
projections = Section("Projections", "Told where the projection and its handlers are declared.")
buses = Section("The bus as a whole", "Told by `Bus(...)`, before anything connects.")
SECTIONS = [messages, aggregates, handlers, projections, buses]


@messages
def a_name_that_cannot_travel() -> None:
    class Opened(Event, name="account opened"): ...


@messages
def former_names_as_one_text() -> None:
    class Opened(Event, formerly="AccountCreated"): ...


@messages
def a_field_that_can_be_gone_through_only_once() -> None:
    class AccountsClosed(Event):
        ids: Iterable[str]


@aggregates
def a_category_that_cannot_be_one() -> None:
    class Account(Aggregate, category="Bank account"): ...


@messages
def a_secret_in_a_message() -> None:
    class PasswordChanged(Event):
        password: SecretStr


@messages
def an_alias_in_one_direction() -> None:
    class OwnerNamed(Event):
        owner: str = Field(serialization_alias="accountOwner")


@messages
def a_field_that_is_not_written() -> None:
    class OwnerNamed(Event):
        owner: str
        title: str = Field(exclude=True)


@aggregates
def an_aggregate_that_is_a_dataclass() -> None:
    @dataclasses.dataclass
    class Purse(Aggregate):
        coins: int = 0

    Purse.events()


@aggregates
def a_default_that_cannot_be_copied() -> None:
    class Purse(Aggregate):
        lock: Any = threading.Lock()


@aggregates
def an_event_that_apply_does_not_name() -> None:
    class Closed(Event): ...

    Account("a1").record(Closed())


@aggregates
def an_id_that_is_a_uuid() -> None:
    """An id that is a UUID"""
    import uuid

    Account(uuid.uuid4())  # type: ignore[arg-type]


@aggregates
def an_id_that_is_too_long() -> None:
    Account("a" * 201)


@aggregates
def an_id_that_cannot_be_printed() -> None:
    Account("a1\n")


@aggregates
def an_event_with_a_value_that_would_be_read_as_another() -> None:
    class Item(BaseModel):
        cents: int

    class Discounted(Item):
        percent: int

    class Sold(Event):
        item: Item

    class Shop(Aggregate, events=[Sold]): ...

    Shop("s1").record(Sold(item=Discounted(cents=100, percent=10)))


@aggregates
def an_event_that_no_validator_has_seen() -> None:
    class Counted(Event):
        number: int = Field(gt=0)

    class Counter(Aggregate, events=[Counted]): ...

    Counter("c1").record(Counted(number=1).model_copy(update={"number": -1}))


@aggregates
def a_snapshot_of_state_without_a_type() -> None:
    class Account(Aggregate, snapshot_every=100):
        def apply(self, event: Event) -> None:
            self.balance = 0

    account = Account("a1")
    account.balance = 5
    account.to_snapshot()


@handlers
def a_router_that_cannot_name_a_queue() -> None:
    Router("open accounts")


@handlers
def a_handler_that_is_not_async() -> None:
    router = Router("closing")

    @router.command  # type: ignore[type-var]
    def close(command: OpenAccount) -> None: ...


@handlers
def a_handler_without_a_message() -> None:
    router = Router("closing")

    @router.command
    async def close() -> None: ...


@handlers
def a_parameter_without_a_type() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount, repository) -> None: ...  # type: ignore[no-untyped-def]


@handlers
def a_handler_of_another_kind_of_message() -> None:
    router = Router("closing")

    @router.command
    async def close(event: AccountOpened) -> None: ...


@handlers
def a_command_handler_of_two_commands() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount | Deposit) -> None: ...


@handlers
def a_class_for_a_handler() -> None:
    router = Router("closing")

    @router.command
    class Close:  # type: ignore[type-var]
        async def __call__(self, command: OpenAccount) -> None: ...


@handlers
def a_handler_that_yields() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount):  # type: ignore[no-untyped-def]
        yield command.account_id


@handlers
def a_method_registered_within_its_class() -> None:
    router = Router("closing")

    class Closing:
        @router.command
        async def close(self, command: OpenAccount) -> None: ...


@handlers
def a_type_that_is_not_there_yet() -> None:
    router = Router("closing")

    @router.command
    async def close(command: "CloseAccount") -> None: ...  # type: ignore  # noqa: F821


@handlers
def a_message_handled_twice_in_a_router() -> None:
    router = Router("mails")

    @router.event
    async def welcome(event: AccountOpened) -> None: ...

    @router.event
    async def greet(event: AccountOpened) -> None: ...


@handlers
def a_retry_policy_for_what_is_not_an_exception() -> None:
    policies: Any = {"TimeoutError": RetryPolicy(tries=1)}
    Router("mails", retry=policies)


@handlers
def a_retry_policy_without_a_try() -> None:
    Router("mails", retry=RetryPolicy(tries=0))


@projections
def a_projection_that_cannot_name_a_collection() -> None:
    Projection("open accounts", of=[Account], view=BalanceView)


@projections
def a_projection_named_as_a_collection_is() -> None:
    Projection("balances__v2", of=[Account], view=BalanceView)


@projections
def a_projection_of_nothing() -> None:
    Projection("balances", of=[], view=BalanceView)


@projections
def a_version_of_zero() -> None:
    Projection("balances", of=[Account], view=BalanceView, version=0)


@projections
def too_many_partitions() -> None:
    Projection("balances", of=[Account], view=BalanceView, partitions=100)


@projections
def a_view_with_an_enum_that_is_never_read_back() -> None:
    class Corner(Enum):
        ORIGIN = (0, 0)

    class Map(BaseModel):
        corner: Corner

    Projection("maps", of=[Account], view=Map)


@projections
def an_event_handled_twice() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}

    @rich.on(Deposited)
    def counted(event: Deposited) -> Update:
        return {"$inc": {"deposits": 1}}


@projections
def a_handler_that_comes_too_late() -> None:
    Bus("bank", projections=[balances], settings=Settings.in_memory())

    class Closed(Event): ...

    @balances.on(Closed)
    def closed(event: Closed) -> Update:
        return {"$set": {"closed": True}}


@projections
def a_handler_of_no_event() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on()
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}


@projections
def a_handler_that_returns_something_else() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited) -> int:
        return event.amount


@projections
def a_view_that_is_not_a_model() -> None:
    Projection("balances", of=[Account], view=dict)  # type: ignore


@projections
def a_handler_without_the_type_of_its_result() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited):  # type: ignore[no-untyped-def]
        return {"$inc": {"balance": event.amount}}


@projections
def a_handler_of_another_event() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}


@projections
def a_handler_that_asks_for_more() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited, repository: Repository[Account]) -> Update:
        return {"$inc": {"balance": event.amount}}


@buses
def a_service_that_cannot_name_queues() -> None:
    Bus("My Bank", settings=Settings.in_memory())


@buses
def a_name_used_twice() -> None:
    Bus("bank", routers=[accounts, Router("accounts")], settings=Settings.in_memory())


@buses
def a_router_named_as_a_collection_is() -> None:
    routers = [accounts, Router("balances__v2")]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses
def a_projection_named_as_a_collection_of_the_buss_own() -> None:
    """A projection named as a collection of the bus's own"""
    commits = Projection("commits", of=[Account], view=BalanceView)
    Bus("bank", projections=[commits], settings=Settings.in_memory())


@buses
def two_classes_of_one_name() -> None:
    class Opened(Event, name="AccountOpened"): ...

    mails = Router("mails")

    @mails.event
    async def welcome(event: Opened) -> None: ...

    routers = [accounts, mails]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses
def a_category_named_as_the_service() -> None:
    Bus("account", routers=[accounts], projections=[balances], settings=Settings.in_memory())


@buses
def two_aggregates_of_one_category() -> None:
    class Savings(Aggregate, category="account"): ...

    savings = Projection("savings", of=[Savings], view=BalanceView)
    Bus("bank", routers=[accounts], projections=[savings], settings=Settings.in_memory())


@buses
def two_projections_of_one_view() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)
    Bus("bank", projections=[balances, rich], settings=Settings.in_memory())


@buses
def a_handler_of_a_base_class() -> None:
    class AccountEvent(Event): ...

    class Closed(AccountEvent): ...

    class Frozen(AccountEvent): ...

    class Safe(Aggregate, events=[Closed, Frozen]): ...

    safes, mails = Router("safes"), Router("mails")

    @safes.command
    async def open_safe(command: OpenAccount, repository: Repository[Safe]) -> None: ...

    @mails.event
    async def tell(event: AccountEvent) -> None: ...

    Bus("bank", routers=[safes, mails], settings=Settings.in_memory())


@buses
async def a_bus_that_is_not_open() -> None:
    bus = Bus("bank", routers=[accounts], projections=[balances], settings=Settings.in_memory())
    await bus.execute(OpenAccount(account_id="a1"))


@buses
def a_command_that_two_routers_handle() -> None:
    others = Router("others")

    @others.command
    async def open_too(command: OpenAccount) -> None: ...

    routers = [accounts, others]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses
def a_parameter_that_nobody_provides() -> None:
    class Clock: ...

    others = Router("others")

    @others.command
    async def close(command: Deposit, clock: Clock) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses
def a_query_that_wants_to_change_something() -> None:
    others = Router("others")

    @others.query
    async def get_balance(query: GetBalance, repository: Repository[Account]) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses
def a_command_that_takes_a_session() -> None:
    others = Router("others")

    @others.command
    async def close(command: Deposit, session: Session) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses
def documents_that_no_projection_makes() -> None:
    Bus("bank", routers=[accounts], settings=Settings.in_memory())


@buses
def a_foreign_category_that_cannot_be_one() -> None:
    Bus("bank", foreign={"Job": "jobs"}, settings=Settings.in_memory())


@buses
def a_foreign_category_of_the_service_itself() -> None:
    Bus("bank", foreign={"job": "bank"}, settings=Settings.in_memory())


@buses
def a_foreign_category_that_nobody_follows() -> None:
    Bus("bank", foreign={"job": "jobs"}, settings=Settings.in_memory())


@buses
def a_foreign_category_that_is_written_here() -> None:
    foreign = {"account": "jobs"}
    routers = [accounts]
    settings = Settings.in_memory()
    Bus("bank", routers=routers, projections=[balances], foreign=foreign, settings=settings)


@messages
def a_field_of_a_type_that_cannot_be_stored() -> None:
    class Iban:
        def __init__(self, text: str) -> None:
            self.text = text

    class Opened(Event):
        ibans: list[Iban]


@messages
def a_result_of_a_type_that_cannot_be_stored() -> None:
    class Found:
        pass

    others = Router("others")

    @others.command
    async def find(command: OpenAccount) -> Found:
        return Found()


@messages
def a_message_that_no_json_schema_describes() -> None:
    class Iban:
        def __init__(self, text: str) -> None:
            self.text = text

    class Opened(Event):
        iban: Annotated[InstanceOf[Iban], BeforeValidator(Iban), PlainSerializer(vars)]

    others = Router("others")

    @others.event
    async def welcome(event: Opened) -> None: ...

    contracts_of(Bus("bank", routers=[others], settings=Settings.in_memory()))
