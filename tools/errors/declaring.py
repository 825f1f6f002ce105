"""What is declared: messages, aggregates, routers, projections, and the bus of them all."""

import dataclasses
import threading
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, InstanceOf, PlainSerializer, SecretStr

from bus import (
    Aggregate,
    Bus,
    Envelope,
    Event,
    Next,
    Projection,
    Repository,
    RetryPolicy,
    Router,
    Session,
    Settings,
    Update,
    contracts_of,
    default_backend,
    timeout,
)
from bus.observe.loops import Loops
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


@messages(
    "ConfigurationError: Opened: 'account opened' is not a valid name for a message to travel by"
)
def a_name_that_cannot_travel() -> None:
    class Opened(Event, name="account opened"): ...


@messages("ConfigurationError: Opened: formerly='AccountCreated' is not a list")
def former_names_as_one_text() -> None:
    class Opened(Event, formerly="AccountCreated"): ...


@messages("ConfigurationError: ids can be gone through only once")
def a_field_that_can_be_gone_through_only_once() -> None:
    class AccountsClosed(Event):
        ids: Iterable[str]


@aggregates("ConfigurationError: Account: 'Bank account' is not a valid category")
def a_category_that_cannot_be_one() -> None:
    class Account(Aggregate, category="Bank account"): ...


@messages(
    "ConfigurationError: password is a secret of pydantic's, which would be stored as asterisks"
)
def a_secret_in_a_message() -> None:
    class PasswordChanged(Event):
        password: SecretStr


@messages("ConfigurationError: owner is written as 'accountOwner' and read as 'owner', so what is")
def an_alias_in_one_direction() -> None:
    class OwnerNamed(Event):
        owner: str = Field(serialization_alias="accountOwner")


@messages("ConfigurationError: title has exclude=True, so it would not be stored, and be lost")
def a_field_that_is_not_written() -> None:
    class OwnerNamed(Event):
        owner: str
        title: str = Field(exclude=True)


@aggregates(
    "ConfigurationError: Purse: it is a dataclass, whose __init__ takes the id for its first"
)
def an_aggregate_that_is_a_dataclass() -> None:
    @dataclasses.dataclass
    class Purse(Aggregate):
        coins: int = 0

    Purse.events()


@aggregates("ConfigurationError: Purse: its default of 'lock' cannot be copied for each aggregate")
def a_default_that_cannot_be_copied() -> None:
    class Purse(Aggregate):
        lock: Any = threading.Lock()


@aggregates(
    "ConfigurationError: Account records Closed, which its apply() does not name, so it could"
)
def an_event_that_apply_does_not_name() -> None:
    class Closed(Event): ...

    Account("a1").record(Closed())


@aggregates("InvalidMessage: the id of an Account must be text, and this one is of type UUID")
def an_id_that_is_a_uuid() -> None:
    """An id that is a UUID"""
    import uuid

    Account(uuid.uuid4())  # type: ignore[arg-type]


@aggregates(
    "InvalidMessage: the id of an Account must have 1 to 200 characters, and this one has 201"
)
def an_id_that_is_too_long() -> None:
    Account("a" * 201)


@aggregates("InvalidMessage: the id of an Account must be printable, and 'a1\\n' has '\\n' in it")
def an_id_that_cannot_be_printed() -> None:
    Account("a1\n")


@aggregates("InvalidMessage: item is of type Discounted, and would be read as Item")
def an_event_with_a_value_that_would_be_read_as_another() -> None:
    class Item(BaseModel):
        cents: int

    class Discounted(Item):
        percent: int

    class Sold(Event):
        item: Item

    class Shop(Aggregate, events=[Sold]): ...

    Shop("s1").record(Sold(item=Discounted(cents=100, percent=10)))


@aggregates(
    "InvalidMessage: Counted could not be read back once it is written: number: Input should"
)
def an_event_that_no_validator_has_seen() -> None:
    class Counted(Event):
        number: int = Field(gt=0)

    class Counter(Aggregate, events=[Counted]): ...

    Counter("c1").record(Counted(number=1).model_copy(update={"number": -1}))


@aggregates("ConfigurationError: Account: snapshots need a type for balance")
def a_snapshot_of_state_without_a_type() -> None:
    class Account(Aggregate, snapshot_every=100):
        def apply(self, event: Event) -> None:
            self.balance = 0

    account = Account("a1")
    account.balance = 5
    account.to_snapshot()


@aggregates("ConfigurationError: Account: stored='document': write stored=")
def an_aggregate_that_is_stored_in_no_known_way() -> None:
    class Account(Aggregate, stored="document"): ...  # type: ignore[arg-type]


@aggregates("ConfigurationError: Account: indexes= is about a stored state")
def an_index_of_an_aggregate_that_is_stored_by_its_events() -> None:
    class Account(Aggregate, indexes=["owner"]): ...


@aggregates('ConfigurationError: Account: stored="state" keeps its state with each commit')
def an_aggregate_by_its_state_with_snapshots() -> None:
    class Account(Aggregate, stored="state", snapshot_every=100): ...


@aggregates("ConfigurationError: Purse: indexes=['owner']: its state has no such field")
def an_index_of_what_is_no_state() -> None:
    class Purse(Aggregate, stored="state", indexes=["owner"], events=[Deposited]):
        balance: int = 0

    router = Router("purses")

    @router.command
    async def deposit(command: Deposit, repository: Repository[Purse]) -> None: ...

    Bus("purses", routers=[router], settings=Settings.in_memory())


@handlers("ConfigurationError: the name becomes a queue's")
def a_router_that_cannot_name_a_queue() -> None:
    Router("open accounts")


@handlers("ConfigurationError: a command handler must be async")
def a_handler_that_is_not_async() -> None:
    router = Router("closing")

    @router.command  # type: ignore[type-var]
    def close(command: OpenAccount) -> None: ...


@handlers("ConfigurationError: its first parameter must be the message")
def a_handler_without_a_message() -> None:
    router = Router("closing")

    @router.command
    async def close() -> None: ...


@handlers("ConfigurationError: parameter 'repository' has no type")
def a_parameter_without_a_type() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount, repository) -> None: ...  # type: ignore[no-untyped-def]


@handlers("ConfigurationError: a command handler takes a subclass of Command")
def a_handler_of_another_kind_of_message() -> None:
    router = Router("closing")

    @router.command
    async def close(event: AccountOpened) -> None: ...


@handlers("ConfigurationError: a command handler takes one command, not a union")
def a_command_handler_of_two_commands() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount | Deposit) -> None: ...


@handlers("ConfigurationError: is a class, and calling it only makes an object of it")
def a_class_for_a_handler() -> None:
    router = Router("closing")

    @router.command
    class Close:  # type: ignore[type-var]
        async def __call__(self, command: OpenAccount) -> None: ...


@handlers("ConfigurationError: it yields, and what it yields would be read by nobody")
def a_handler_that_yields() -> None:
    router = Router("closing")

    @router.command
    async def close(command: OpenAccount):  # type: ignore[no-untyped-def]
        yield command.account_id


@handlers(
    "ConfigurationError: bank.Closing.close: 'self' is given by nobody, because it is registered"
)
def a_method_registered_within_its_class() -> None:
    router = Router("closing")

    class Closing:
        @router.command
        async def close(self, command: OpenAccount) -> None: ...


@handlers("ConfigurationError: name 'CloseAccount' is not defined")
def a_type_that_is_not_there_yet() -> None:
    router = Router("closing")

    @router.command
    async def close(command: "CloseAccount") -> None: ...  # type: ignore  # noqa: F821


@handlers("ConfigurationError: AccountOpened is handled by bank.welcome in router 'mails' already")
def a_message_handled_twice_in_a_router() -> None:
    router = Router("mails")

    @router.event
    async def welcome(event: AccountOpened) -> None: ...

    @router.event
    async def greet(event: AccountOpened) -> None: ...


@handlers(
    "ConfigurationError: retry= has the key 'TimeoutError', which is not a class of exceptions"
)
def a_retry_policy_for_what_is_not_an_exception() -> None:
    policies: Any = {"TimeoutError": RetryPolicy(tries=1)}
    Router("mails", retry=policies)


@handlers("ConfigurationError: RetryPolicy: tries=0: give a whole number, 1 or more")
def a_retry_policy_without_a_try() -> None:
    Router("mails", retry=RetryPolicy(tries=0))


@projections(
    "ConfigurationError: Projection('open accounts'): the name becomes a collection's and a"
)
def a_projection_that_cannot_name_a_collection() -> None:
    Projection("open accounts", of=[Account], view=BalanceView)


@projections(
    "ConfigurationError: Projection('balances__v2'): the bus names collections so, by a version"
)
def a_projection_named_as_a_collection_is() -> None:
    Projection("balances__v2", of=[Account], view=BalanceView)


@projections("ConfigurationError: of= lists aggregates' classes, one at least")
def a_projection_of_nothing() -> None:
    Projection("balances", of=[], view=BalanceView)


@projections("ConfigurationError: version=0: give a whole number, 1 or more")
def a_version_of_zero() -> None:
    Projection("balances", of=[Account], view=BalanceView, version=0)


@projections("ConfigurationError: partitions=100: give a whole number, 64 at most")
def too_many_partitions() -> None:
    Projection("balances", of=[Account], view=BalanceView, partitions=100)


@projections(
    "ConfigurationError: Map.corner is a Corner, whose member ORIGIN cannot be read back by its"
)
def a_view_with_an_enum_that_is_never_read_back() -> None:
    class Corner(Enum):
        ORIGIN = (0, 0)

    class Map(BaseModel):
        corner: Corner

    Projection("maps", of=[Account], view=Map)


@projections(
    "ConfigurationError: Deposited is handled by bank.deposited in projection 'rich' already"
)
def an_event_handled_twice() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}

    @rich.on(Deposited)
    def counted(event: Deposited) -> Update:
        return {"$inc": {"deposits": 1}}


@projections(
    "ConfigurationError: comes too late: Bus('bank') was built with Projection('balances')"
)
def a_handler_that_comes_too_late() -> None:
    Bus("bank", projections=[balances], settings=Settings.in_memory())

    class Closed(Event): ...

    @balances.on(Closed)
    def closed(event: Closed) -> Update:
        return {"$set": {"closed": True}}


@projections("ConfigurationError: on() names no event")
def a_handler_of_no_event() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on()
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}


@projections("ConfigurationError: it may return an update, Delete(), None")
def a_handler_that_returns_something_else() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited) -> int:
        return event.amount


@projections("ConfigurationError: is no class of pydantic's BaseModel")
def a_view_that_is_not_a_model() -> None:
    Projection("balances", of=[Account], view=dict)  # type: ignore


@projections("ConfigurationError: it has no return type")
def a_handler_without_the_type_of_its_result() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited):  # type: ignore[no-untyped-def]
        return {"$inc": {"balance": event.amount}}


@projections(
    "ConfigurationError: registered for AccountOpened, but its first parameter is bank.Deposited"
)
def a_handler_of_another_event() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def deposited(event: Deposited) -> Update:
        return {"$inc": {"balance": event.amount}}


@projections("ConfigurationError: a projection's handler takes the event, the Envelope")
def a_handler_that_asks_for_more() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(Deposited)
    def deposited(event: Deposited, repository: Repository[Account]) -> Update:
        return {"$inc": {"balance": event.amount}}


@buses("ConfigurationError: the name becomes that of exchanges and queues")
def a_service_that_cannot_name_queues() -> None:
    Bus("My Bank", settings=Settings.in_memory())


@buses("ConfigurationError: routers and projections name queues, and each name is to be used once")
def a_name_used_twice() -> None:
    Bus("bank", routers=[accounts, Router("accounts")], settings=Settings.in_memory())


@buses("ConfigurationError: Router('balances__v2'): names with __v and a number are kept for the")
def a_router_named_as_a_collection_is() -> None:
    routers = [accounts, Router("balances__v2")]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses("ConfigurationError: Projection('commits'): that collection is the bus's own")
def a_projection_named_as_a_collection_of_the_buss_own() -> None:
    """A projection named as a collection of the bus's own"""
    commits = Projection("commits", of=[Account], view=BalanceView)
    Bus("bank", projections=[commits], settings=Settings.in_memory())


@buses("ConfigurationError: bank.AccountOpened and bank.Opened both travel as 'AccountOpened'")
def two_classes_of_one_name() -> None:
    class Opened(Event, name="AccountOpened"): ...

    mails = Router("mails")

    @mails.event
    async def welcome(event: Opened) -> None: ...

    routers = [accounts, mails]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses(
    "ConfigurationError: bank.Account has the category 'account', and what the service publishes"
)
def a_category_named_as_the_service() -> None:
    Bus("account", routers=[accounts], projections=[balances], settings=Settings.in_memory())


@buses(
    "ConfigurationError: bank.Account and bank.Savings both have the category 'account', so each"
)
def two_aggregates_of_one_category() -> None:
    class Savings(Aggregate, category="account"): ...

    savings = Projection("savings", of=[Savings], view=BalanceView)
    Bus("bank", routers=[accounts], projections=[savings], settings=Settings.in_memory())


@buses(
    "ConfigurationError: the projections 'balances' and 'rich' both declare view=BalanceView, so"
)
def two_projections_of_one_view() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)
    Bus("bank", projections=[balances, rich], settings=Settings.in_memory())


@buses("ConfigurationError: handles AccountEvent, which is a base class: it would run for")
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


@buses("ConfigurationError: Bus('bank') is not open: enter it where it is used, `async with bus:`")
async def a_bus_that_is_not_open() -> None:
    bus = Bus("bank", routers=[accounts], projections=[balances], settings=Settings.in_memory())
    await bus.execute(OpenAccount(account_id="a1"))


@buses("ConfigurationError: holds the same Projection('balances') twice")
def a_projection_given_twice() -> None:
    Bus("bank", projections=[balances, balances], settings=Settings.in_memory())


@buses("ConfigurationError: is the class, which knows no server")
def the_class_of_a_client() -> None:
    from pymongo import AsyncMongoClient

    Bus("bank", client=AsyncMongoClient, settings=Settings.in_memory())


@buses("ConfigurationError: the bus itself gives handlers that")
def what_the_bus_itself_gives() -> None:
    Bus("bank", provide={Envelope: "mine"}, settings=Settings.in_memory())


@buses("ConfigurationError: it returns nothing")
def middleware_that_returns_nothing() -> None:
    async def timed(envelope: Envelope, following: Next) -> None:
        await following(envelope)

    Bus("bank", middleware=[timed], settings=Settings.in_memory())


@buses("ConfigurationError: it is not async")
def middleware_that_is_not_async() -> None:
    def timed(envelope: Envelope, following: Next) -> Any:
        return following(envelope)

    Bus("bank", middleware=[timed], settings=Settings.in_memory())


@buses("ConfigurationError: call it first")
def a_timeout_that_was_not_called() -> None:
    Bus("bank", middleware=[timeout], settings=Settings.in_memory())  # type: ignore[list-item]


@buses("ConfigurationError: backend= is of type Backend")
def a_backend_in_place_of_a_function() -> None:
    backend = default_backend(Settings.in_memory())("bank", [], Loops())
    Bus("bank", settings=Settings.in_memory(), backend=backend)  # type: ignore[arg-type]


@buses("ConfigurationError: backend=default_backend: call it first")
def a_default_backend_that_was_not_called() -> None:
    backend: Any = default_backend
    Bus("bank", settings=Settings.in_memory(), backend=backend)


@buses("ConfigurationError: backend= takes (service, projected)")
def a_backend_made_of_other_parameters() -> None:
    usual = default_backend(Settings.in_memory())

    def backend(service, projected):  # type: ignore[no-untyped-def]
        return usual(service, projected, Loops())

    Bus("bank", settings=Settings.in_memory(), backend=backend)  # type: ignore[arg-type]


@buses("ConfigurationError: its backend is None")
def a_backend_that_is_not_returned() -> None:
    usual = default_backend(Settings.in_memory())

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Any:
        dataclasses.replace(usual(service, projected, loops), middleware=[timeout(10)])

    Bus("bank", settings=Settings.in_memory(), backend=backend)


@buses("ConfigurationError: its backend: transport=None")
def a_backend_without_a_transport() -> None:
    usual = default_backend(Settings.in_memory())

    def backend(service: str, projected: Sequence[str], loops: Loops) -> Any:
        made = usual(service, projected, loops)
        return dataclasses.replace(made, transport=None)  # type: ignore[arg-type]

    Bus("bank", settings=Settings.in_memory(), backend=backend)


@buses("ConfigurationError: client= is for the default backend")
def a_client_beside_a_backend() -> None:
    settings = Settings.in_memory()
    Bus("bank", settings=settings, backend=default_backend(settings), client=object())


@buses("ConfigurationError: returned a coroutine")
async def middleware_that_does_not_await() -> None:
    async def timed(envelope: Envelope, following: Next) -> Any:
        return following(envelope)

    bus = Bus(
        "bank",
        routers=[accounts],
        projections=[balances],
        middleware=[timed],
        settings=Settings.in_memory(),
    )
    async with bus:
        await bus.execute(OpenAccount(account_id="a1"), id="order-7")


@buses("ConfigurationError: OpenAccount is handled by bank.open_account already")
def a_command_that_two_routers_handle() -> None:
    others = Router("others")

    @others.command
    async def open_too(command: OpenAccount) -> None: ...

    routers = [accounts, others]
    Bus("bank", routers=routers, projections=[balances], settings=Settings.in_memory())


@buses("ConfigurationError: parameter 'clock': nobody provides Clock")
def a_parameter_that_nobody_provides() -> None:
    class Clock: ...

    others = Router("others")

    @others.command
    async def close(command: Deposit, clock: Clock) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses("ConfigurationError: parameter 'repository': a query changes nothing and cannot take")
def a_query_that_wants_to_change_something() -> None:
    others = Router("others")

    @others.query
    async def get_balance(query: GetBalance, repository: Repository[Account]) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses("ConfigurationError: parameter 'session': a query changes nothing and cannot take Session")
def a_query_that_takes_a_session() -> None:
    others = Router("others")

    @others.query
    async def get_balance(query: GetBalance, session: Session) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses("ConfigurationError: parameter 'session': handlers are lent the session of the event log's")
def a_session_of_the_other_database() -> None:
    from sqlalchemy.ext.asyncio import AsyncSession

    others = Router("others")

    @others.command
    async def open_account(command: OpenAccount, session: AsyncSession) -> None: ...

    Bus("bank", routers=[others], settings=Settings.in_memory())


@buses("ConfigurationError: its projection 'balances' keeps documents or versions in MongoDB")
def projections_without_mongodb() -> None:
    log = "postgresql+asyncpg://localhost/bank"
    settings = Settings(amqp_url="memory://", mongo_url="", log_url=log)
    Bus("bank", projections=[balances], settings=settings)


@buses("ConfigurationError: no projection of this bus declares view=BalanceView")
def documents_that_no_projection_makes() -> None:
    Bus("bank", routers=[accounts], settings=Settings.in_memory())


@buses("ConfigurationError: foreign= has the key 'Job', which is not a valid category")
def a_foreign_category_that_cannot_be_one() -> None:
    Bus("bank", foreign={"Job": "jobs"}, settings=Settings.in_memory())


@buses("ConfigurationError: foreign={'job': 'bank'}: 'bank' is this service itself")
def a_foreign_category_of_the_service_itself() -> None:
    Bus("bank", foreign={"job": "bank"}, settings=Settings.in_memory())


@buses("ConfigurationError: foreign={'job': ...} has no use here: no projection has a class with")
def a_foreign_category_that_nobody_follows() -> None:
    Bus("bank", foreign={"job": "jobs"}, settings=Settings.in_memory())


@buses("ConfigurationError: takes Account from its Repository, and Bus('bank') says that 'account'")
def a_foreign_category_that_is_written_here() -> None:
    foreign = {"account": "jobs"}
    routers = [accounts]
    settings = Settings.in_memory()
    Bus("bank", routers=routers, projections=[balances], foreign=foreign, settings=settings)


@messages("ConfigurationError: ibans is Iban, which pydantic can neither write nor read")
def a_field_of_a_type_that_cannot_be_stored() -> None:
    class Iban:
        def __init__(self, text: str) -> None:
            self.text = text

    class Opened(Event):
        ibans: list[Iban]


@messages("ConfigurationError: bank.find, what it returns: it is Found, which pydantic can neither")
def a_result_of_a_type_that_cannot_be_stored() -> None:
    class Found:
        pass

    others = Router("others")

    @others.command
    async def find(command: OpenAccount) -> Found:
        return Found()


@messages("ConfigurationError: bank.Opened.iban has no JSON Schema")
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
