"""What a projection's handler returns or raises; dead letters; what people do to projections."""

import asyncio
import uuid
from contextlib import suppress
from datetime import date, datetime

from pydantic import BaseModel, SecretStr

from bus import (
    Bus,
    DeadLetters,
    Documents,
    Events,
    Projection,
    ProjectionError,
    Projections,
    Settings,
    Update,
    Worker,
    compare_contracts,
)
from bus.stores.collections import Index
from bus.testing import given
from tools.errors.bank import (
    Account,
    AccountOpened,
    BalanceView,
    OpenAccount,
    accounts,
    balances,
)
from tools.errors.entries import Section
from tools.errors.places import on_plain_files

folding = Section(
    "Folding events",
    "In a worker, the stream is parked with this error, the others go on, and "
    "`bus deadletters show` tells it; in a test it is raised where it stands here.",
)
repairing = Section("Repairing, rebuilding, looking", "Told by the methods and by the commands.")
SECTIONS = [folding, repairing]


@folding("ProjectionError: the update of 'a1' has the key 'owner', which is no MongoDB update")
def an_update_without_an_operator() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"owner": event.owner}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1' gives $inc a value of type int")
def an_operator_without_fields() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$inc": 1}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1' is empty")
def an_update_that_is_empty() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1' writes _id, which the bus sets itself to the")
def a_field_of_the_buss_own() -> None:
    """A field of the bus's own"""
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"_id": event.owner}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1' has a field under 'owners' whose name is empty")
def a_value_of_the_event_as_the_name_of_a_field() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {f"owners.{event.owner}": True}}

    given(Account, "a1", AccountOpened(owner="$Ada")).project(rich)


@folding("ProjectionError: returned str")
def a_result_that_is_not_a_change() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return "opened"  # type: ignore[return-value]

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: a document's key must be text, and this one is of type UUID")
def a_key_that_is_not_text() -> None:
    class Counted(BaseModel):
        count: int

    owners = Projection("owners", of=[Account], view=Counted)

    @owners.on(AccountOpened, key=lambda event: uuid.uuid4())  # type: ignore
    def opened(event: AccountOpened) -> Update:
        return {"$inc": {"count": 1}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(owners)


@folding(
    "ProjectionError: the update of 'a1', $inc of 'owner': the field is text, and it takes numbers"
)
def an_update_that_the_document_cannot_take() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> list[tuple[str, Update]]:
        return [("a1", {"$set": {"owner": "Ada"}}), ("a1", {"$inc": {"owner": 1}})]

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding(
    "ProjectionError: the update of 'a1' writes one field twice, $set of 'owner' and $unset of"
)
def two_operators_on_one_field() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"owner": event.owner}, "$unset": {"owner": ""}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1', $set of 'size': the value cannot be stored")
def a_number_beyond_64_bits_in_a_document() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"size": 2**70}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: Documents[BalanceView]: limit=-1: give a whole number of documents")
def a_limit_that_is_no_number_of_documents() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    async def opened(event: AccountOpened, documents: Documents[BalanceView]) -> None:
        await documents.find({}, limit=-1)

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: Documents[BalanceView]: sort=[('owner', 'asc')] is no list of fields")
def an_order_by_a_word() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    async def opened(event: AccountOpened, documents: Documents[BalanceView]) -> None:
        await documents.find({}, sort=[("owner", "asc")])

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the transaction had ended before its handler did, which swallowed the")
def an_error_that_a_handler_swallows() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    async def opened(event: AccountOpened, documents: Documents[BalanceView]) -> None:
        await documents.update("a1", {"$set": {"owner": event.owner}})
        with suppress(ProjectionError):
            await documents.update("a1", {"$inc": {"owner": 1}})

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1', $set of 'opened': the value is a datetime without a")
def a_datetime_without_a_zone() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"opened": datetime(2026, 1, 1, 12)}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the update of 'a1', $set, gives a date to 'at', which is a datetime in")
def a_date_where_the_view_has_a_datetime() -> None:
    class Opened(BaseModel):
        at: datetime

    openings = Projection("openings", of=[Account], view=Opened)

    @openings.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"at": date(2026, 1, 1)}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(openings)


@folding("ProjectionError: the update of 'a1', $push of 'owners', at 'name': the value is of type")
def a_secret_in_a_document() -> None:
    rich = Projection("rich", of=[Account], view=BalanceView)

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$push": {"owners": {"name": SecretStr(event.owner)}}}

    given(Account, "a1", AccountOpened(owner="Ada")).project(rich)


@folding("ProjectionError: the documents 'a1' and 'a2' have the same owner, and Index((('owner'")
def two_documents_of_one_key_in_a_unique_index() -> None:
    by_owner = Index((("owner", 1),), unique=True)
    rich = Projection("rich", of=[Account], view=BalanceView, indexes=[by_owner])

    @rich.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"owner": event.owner}}

    ada = AccountOpened(owner="Ada")
    given(Account, "a1", ada).given(Account, "a2", ada).project(rich)


@repairing("ConfigurationError: service 'bank' has no subscription of that name")
async def an_unknown_subscription(bus: Bus) -> None:
    async with Worker(bus, only=["mails"]):
        pass


@repairing("ProjectionError: there is no projection 'balance'")
async def an_unknown_projection(bus: Bus) -> None:
    await Projections(bus).rebuild("balance")


@repairing("ProjectionError: projection 'balances': there is nothing to roll back to: readers have")
async def a_rollback_to_nothing(bus: Bus) -> None:
    await Projections(bus).rollback("balances")


@repairing("ProjectionError: projection 'balances' has no collection 'balances__v7'")
async def an_unknown_collection(bus: Bus) -> None:
    await Projections(bus).drop("balances", "balances__v7")


@repairing("ProjectionError: projection 'balances': readers read 'balances__v1', so it cannot be")
async def the_collection_that_readers_read(bus: Bus) -> None:
    await Projections(bus).drop("balances", "balances__v1")


@repairing("ProjectionError: projection 'balances': its next collection balances__v1r2 is being")
async def a_rebuild_while_one_is_going_on(bus: Bus) -> None:
    await Projections(bus).rebuild("balances")
    await Projections(bus).rebuild("balances")


@repairing("ProjectionError: say which part")
async def a_refold_of_no_part(bus: Bus) -> None:
    await Projections(bus).refold("balances")


@repairing(
    "ProjectionError: projection 'balances' is fed by streams of account, and 'job-7' is not"
)
async def a_refold_of_a_stream_that_does_not_feed_it(bus: Bus) -> None:
    await Projections(bus).refold("balances", streams=["job-7"])


@repairing("ConfigurationError: projection 'balances': an audit needs collections that are")
async def a_place_for_documents_that_cannot_be_audited() -> None:
    bank = Bus(
        "bank",
        routers=[accounts],
        projections=[balances],
        settings=Settings.in_memory(),
        backend=on_plain_files,
    )
    async with bank as bus:
        await Projections(bus).audit("balances")


@repairing("ProjectionError: no projection follows the category 'job' of another service")
async def a_history_that_nobody_follows(bus: Bus) -> None:
    await Projections(bus).fetch("job")


@repairing("DeadLetterError: bank.commands/7: there is no such dead letter")
async def a_dead_letter_that_is_gone(bus: Bus) -> None:
    await DeadLetters(bus).show("bank.commands/7")


@repairing("DeadLetterError: balances__v1/account-a1: there is no such dead letter")
async def a_parked_stream_that_is_gone(bus: Bus) -> None:
    await DeadLetters(bus).show("balances__v1/account-a1")


@repairing("DeadLetterError: balances__v1/account-a1: its data cannot be changed, because it is an")
async def the_data_of_an_event_in_the_log() -> None:
    failing = Projection("balances", of=[Account], view=BalanceView)

    @failing.on(AccountOpened)
    def opened(event: AccountOpened) -> Update:
        return {"$set": {"balance": int(event.owner)}}

    bus = Bus("bank", routers=[accounts], projections=[failing], settings=Settings.in_memory())
    async with bus, Worker(bus):
        await bus.execute(OpenAccount(account_id="a1"))
        while not await DeadLetters(bus).streams():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await DeadLetters(bus).edit("balances__v1/account-a1", {"owner": "7"})


@repairing("DeadLetterError: say which")
async def dead_letters_without_saying_which(bus: Bus) -> None:
    await DeadLetters(bus).retry()


@repairing("DeadLetterError: rate=0: give the retries per second")
async def a_rate_of_zero(bus: Bus) -> None:
    await DeadLetters(bus).retry(all=True, rate=0)


@repairing("ConfigurationError: service 'bank' has no subscription named 'mails'")
async def events_sent_again_to_nobody(bus: Bus) -> None:
    from bus import clock

    await Events(bus).republish("mails", since=clock.now())


@repairing("ConfigurationError: what is to be compared is not what `bus contracts export` of this")
def contracts_that_are_something_else() -> None:
    compare_contracts({}, {})
