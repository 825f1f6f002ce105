"""What goes wrong when a message is given to the bus, and in its handler."""

import uuid
from typing import Any

from bus import (
    Aggregate,
    Bus,
    Command,
    Event,
    Outbox,
    Receipt,
    Repository,
    Router,
    Settings,
    Worker,
)
from bus.testing import given
from tools.errors.bank import (
    Account,
    AccountOpened,
    Deposit,
    Deposited,
    GetBalance,
    OpenAccount,
    balances,
    deposit,
)
from tools.errors.entries import Section

calls = Section("Calls", "Told by the call; nothing is stored.")
handling = Section(
    "Handling commands", "Told by `execute`; by `request` as the same error, or as a RemoteError."
)
SECTIONS = [calls, handling]


@calls("NoHandler: nobody handles the command CloseAccount")
async def a_command_that_nobody_handles(bus: Bus) -> None:
    class CloseAccount(Command):
        account_id: str

    await bus.execute(CloseAccount(account_id="a1"))


@calls("InvalidMessage: execute takes a Command, and GetBalance is a Query")
async def a_query_given_to_execute(bus: Bus) -> None:
    await bus.execute(GetBalance(account_id="a1"))  # type: ignore[arg-type]


@calls("InvalidMessage: execute takes a Command, and this is a class")
async def a_class_given_for_a_command(bus: Bus) -> None:
    await bus.execute(OpenAccount)  # type: ignore[arg-type]


@calls("InvalidMessage: send or request takes a Command, and AccountOpened is an Event: let an")
async def an_event_given_to_send(bus: Bus) -> None:
    await bus.send(AccountOpened(owner="Ada"))  # type: ignore[arg-type]


@calls("InvalidMessage: the id of a message must be text, and this one is of type UUID")
async def an_id_that_is_a_uuid(bus: Bus) -> None:
    """A command's id that is a UUID"""
    await bus.execute(OpenAccount(account_id="a1"), id=uuid.uuid4())  # type: ignore[arg-type]


@calls("InvalidMessage: the id of a message must have 1 to 150 bytes, and this one has 200")
async def an_id_of_too_many_bytes(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), id="é" * 100)


@calls("InvalidMessage: the id of a message must not have a slash, as 'orders/7' has: put")
async def an_id_with_a_slash(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), id="orders/7")


@calls("InvalidMessage: the id of a message must be printable, and 'order 7\\n' has '\\n' in it")
async def an_id_that_cannot_be_printed(bus: Bus) -> None:
    """A command's id that cannot be printed"""
    await bus.execute(OpenAccount(account_id="a1"), id="order 7\n")


@calls("InvalidMessage: the id '=7' begins with '=', as the bus's own do, which derive from")
async def an_id_as_the_buss_own(bus: Bus) -> None:
    """An id as the bus's own"""
    await bus.execute(OpenAccount(account_id="a1"), id="=7")


@calls("InvalidMessage: a correlation id must have 1 to 200 bytes, and this one has 300 bytes")
async def a_correlation_id_of_300_characters(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), correlation_id="c" * 300)


@calls("InvalidMessage: the value of header 'tenant' must be text, and this one is of type int")
async def a_header_that_is_not_text(bus: Bus) -> None:
    headers: Any = {"tenant": 7}
    await bus.execute(OpenAccount(account_id="a1"), headers=headers)


@calls("InvalidMessage: headers= is of type list; give a dict")
async def headers_that_are_pairs(bus: Bus) -> None:
    headers: Any = [("tenant", "a")]
    await bus.execute(OpenAccount(account_id="a1"), headers=headers)


@calls("InvalidMessage: header 'version' is one of the bus's own")
async def a_header_of_the_buss_own(bus: Bus) -> None:
    """A header of the bus's own"""
    await bus.execute(OpenAccount(account_id="a1"), headers={"version": "1"})


@calls("InvalidMessage: must have 1 to 128 bytes, and this one has 200 bytes")
async def a_header_whose_name_is_too_long(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), headers={"ü" * 100: "x"})


@calls("InvalidMessage: a message may have 90 headers, and this one has 100: put what belongs")
async def too_many_headers(bus: Bus) -> None:
    headers = {f"h{number}": "x" for number in range(100)}
    await bus.execute(OpenAccount(account_id="a1"), headers=headers)


@calls("InvalidMessage: a message's headers may have 30720 bytes together, and these have")
async def headers_that_are_too_large(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), headers={"basket": "x" * 40_000})


@calls("InvalidMessage: after= takes a Receipt, and this is of type str")
async def a_token_given_for_a_receipt(bus: Bus) -> None:
    receipt = await bus.execute(OpenAccount(account_id="a1"))
    await bus.query(GetBalance(account_id="a1"), after=receipt.token)  # type: ignore[arg-type]


@calls("InvalidMessage: 'account-a1' is not the token of a receipt")
def text_that_is_not_a_token() -> None:
    Receipt.from_token("account-a1")


@calls("IdConflict: the id order-7 was used before, by OpenAccount, and now by Deposit")
async def an_id_used_before_for_something_else(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), id="order-7")
    await bus.execute(Deposit(account_id="a1", amount=5), id="order-7")


@calls("IdConflict: the id order-7 was used before, by another OpenAccount")
async def an_id_used_before_for_other_content(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"), id="order-7")
    await bus.execute(OpenAccount(account_id="a2"), id="order-7")


@calls("InvalidMessage: OpenAccount: body of 2,000,030 bytes, over 1,048,576")
async def a_body_that_is_too_large(bus: Bus) -> None:
    await bus.send(OpenAccount(account_id="a1", owner="x" * 2_000_000))


@calls("InvalidMessage: Note.data.0.0.0.0.0...: nested more than 50 levels deep")
async def data_nested_too_deep(bus: Bus) -> None:
    class Note(Event):
        data: Any

    data: Any = []
    for _ in range(60):
        data = [data]
    await bus.publish(Note(data=data))


@calls("InvalidMessage: Measured: data.size is of type tuple, and would be read as list")
async def a_tuple_where_anything_may_stand(bus: Bus) -> None:
    class Measured(Event):
        data: Any

    await bus.publish(Measured(data={"size": (3, 4)}))


@calls("InvalidMessage: Deposited.amount: the integer has more than 64 bits")
async def an_integer_that_is_too_large(bus: Bus) -> None:
    await bus.publish(Deposited(amount=2**63))


@calls("InvalidMessage: Noted.values: a key begins with $, as MongoDB's operators do")
async def a_key_that_mongodb_takes_for_its_own(bus: Bus) -> None:
    """A key that MongoDB takes for its own"""

    class Noted(Event):
        values: dict[str, int]

    await bus.publish(Noted(values={"$set": 1}))


@calls("InvalidMessage: AccountOpened.owner: the text holds a lone surrogate, which UTF-8")
async def text_that_is_no_unicode(bus: Bus) -> None:
    """Text that is not Unicode"""
    await bus.publish(AccountOpened(owner="\ud800"))


@handling(
    "ConfigurationError: Repository[Account].find(owner=...): Account is stored by its events"
)
async def aggregates_by_their_events_that_are_to_be_found() -> None:
    closing = Router("closing")

    @closing.command
    async def close(command: OpenAccount, repository: Repository[Account]) -> None:
        await repository.find(owner=command.owner)

    async with Bus("bank", routers=[closing], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("ConfigurationError: Repository[Purse].find(owner=...): none of these has an index")
async def aggregates_that_are_to_be_found_without_an_index() -> None:
    class Purse(Aggregate, stored="state", events=[AccountOpened]):
        owner: str = ""

    closing = Router("closing")

    @closing.command
    async def close(command: OpenAccount, repository: Repository[Purse]) -> None:
        await repository.find(owner=command.owner)

    async with Bus("bank", routers=[closing], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("InvalidMessage: Purse.coins: a key begins with $, as MongoDB's operators do")
async def a_state_that_cannot_be_kept() -> None:
    class Purse(Aggregate, stored="state", events=[AccountOpened]):
        coins: dict[str, int] = {}  # noqa: RUF012

        def apply(self, event: Event) -> None:
            self.coins["$"] = 1

    opening = Router("opening")

    @opening.command
    async def open_purse(command: OpenAccount, repository: Repository[Purse]) -> None:
        purse = Purse(command.account_id)
        purse.record(AccountOpened(owner=command.owner))
        repository.add(purse)

    async with Bus("bank", routers=[opening], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("AggregateNotFound: there is no Account 'nobody'")
async def an_aggregate_that_does_not_exist(bus: Bus) -> None:
    await bus.execute(Deposit(account_id="nobody", amount=5))


@handling("ConcurrencyError: OpenAccount: the stream account-a1 exists already, so nothing can be")
async def an_aggregate_that_exists_already(bus: Bus) -> None:
    await bus.execute(OpenAccount(account_id="a1"))
    await bus.execute(OpenAccount(account_id="a1"))


@handling(
    "ConfigurationError: Repository[Account].add: this handler has added, or read, Account 'a1'"
)
async def an_aggregate_added_though_it_was_handed_out() -> None:
    router = Router("twice")

    @router.command
    async def open_twice(command: OpenAccount, repository: Repository[Account]) -> None:
        repository.add(Account(command.account_id))
        repository.add(Account(command.account_id))

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("InvalidMessage: what it returned, of type set, cannot be stored as JSON, without an")
async def a_result_without_an_annotation_that_is_more_than_json() -> None:
    """A result without an annotation that is more than JSON"""
    router = Router("wrong")

    @router.command
    async def open_account(command: OpenAccount):  # type: ignore[no-untyped-def]
        return {"first", "second"}

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("InvalidMessage: what it returned, of type str, cannot be stored as '-> int': Input")
async def a_result_that_is_not_as_its_annotation_says() -> None:
    router = Router("wrong")

    @router.command
    async def open_account(command: OpenAccount) -> int:
        return "opened"  # type: ignore[return-value]

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        await bus.execute(OpenAccount(account_id="a1"))


@handling("InvalidMessage: Outbox.publish(stream=...): 'rates' is not the name of a stream")
async def a_stream_without_an_id() -> None:
    others = Router("others")

    @others.command
    async def rate(command: Deposit, outbox: Outbox) -> None:
        outbox.publish(Deposited(amount=command.amount), stream="rates")

    async with Bus("bank", routers=[others], settings=Settings.in_memory()) as bus:
        await bus.execute(Deposit(account_id="a1", amount=5))


@handling("InvalidMessage: Outbox.publish(stream=...): the id in 'rate-' must have 1 to 200")
async def a_stream_whose_id_is_empty() -> None:
    Outbox("order-7").publish(Deposited(amount=5), stream="rate-")


@handling("ConfigurationError: the category 'account' of 'account-a1' is that of the aggregate")
async def a_stream_that_an_aggregate_writes() -> None:
    others = Router("others")

    @others.command
    async def pay(command: Deposit, outbox: Outbox, repository: Repository[Account]) -> None:
        outbox.publish(Deposited(amount=command.amount), stream=f"account-{command.account_id}")

    async with Bus("bank", routers=[others], settings=Settings.in_memory()) as bus:
        await bus.execute(Deposit(account_id="a1", amount=5))


@handling("ConfigurationError: the category 'bank' of 'bank-rates' is the service's own; leave")
async def a_stream_of_the_services_own() -> None:
    """A stream of the service's own"""
    others = Router("others")

    @others.command
    async def rate(command: Deposit, outbox: Outbox) -> None:
        outbox.publish(Deposited(amount=command.amount), stream="bank-rates")

    async with Bus("bank", routers=[others], settings=Settings.in_memory()) as bus:
        await bus.execute(Deposit(account_id="a1", amount=5))


@handling("NewerMessage: account-a1, version 1: the stored event Deposited: it is of schema 2")
def an_event_in_the_stream_that_only_a_later_release_knows() -> None:
    """A stored event that only a later release knows"""

    class Later(Event, name="Deposited", schema=2):
        amount: int

    given(Account, "a1", Later(amount=5)).project(balances)


@handling("OutcomeUnknown: OpenAccount: no answer within 0.1 s")
async def a_command_that_no_worker_answers(bus: Bus) -> None:
    await bus.request(OpenAccount(account_id="a1"), id="order-7", timeout=0.1)


@handling("RemoteError: OpenAccount order-7: its handler raised ValueError: no account for Ada")
async def an_error_of_the_handlers_own_elsewhere() -> None:
    """An error of the handler's own, elsewhere"""
    router = Router("closing")

    @router.command
    async def open_account(command: OpenAccount) -> None:
        raise ValueError("no account for Ada")

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus, Worker(bus):
        await bus.request(OpenAccount(account_id="a1"), id="order-7")


@calls("InvalidMessage: Noted.values: a key holds a NUL, which MongoDB refuses")
async def a_key_that_holds_a_nul(bus: Bus) -> None:
    class Noted(Event):
        values: dict[str, int]

    await bus.publish(Noted(values={"a\0b": 1}))


@calls("InvalidMessage: Measured.values: the number is NaN or infinite, which JSON cannot say")
async def a_float_that_is_not_a_number(bus: Bus) -> None:
    """A number that is NaN"""

    class Measured(Event):
        values: Any

    await bus.publish(Measured(values=float("nan")))


@handling("InvalidMessage: account-a1, version 1: the stored event Deposited: amount: Field")
def a_stream_that_its_class_cannot_read() -> None:
    """A stored event that its class cannot read"""

    class Earlier(Event, name="Deposited"):
        euros: int

    command = Deposit(account_id="a1", amount=5)
    outcome = given(Account, "a1", Earlier(euros=5)).when_handled(command, by=deposit)
    raise outcome.error  # type: ignore[misc]
