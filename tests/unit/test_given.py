"""Given, when, then: what users test their handlers with says what was expected and what came."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from bus import (
    Aggregate,
    AggregateNotFound,
    Command,
    ConfigurationError,
    Documents,
    Envelope,
    Event,
    InvalidMessage,
    Outbox,
    Projection,
    ProjectionError,
    Query,
    Repository,
    Router,
    Session,
    Update,
)
from bus.testing import given, given_documents
from tests.service.wallet import (
    Ledger,
    Paid,
    Pay,
    Thank,
    Thanked,
    Wallet,
    WalletView,
    ledgers,
)

router = Router("testing_given")


class Spender:
    """Something that a service provides."""

    limit = 10


class Rich(Query[list[str]]):
    least: int


@router.command
async def pay(command: Pay, repository: Repository[Wallet], spender: Spender) -> int:
    if command.amount > spender.limit:
        raise ValueError(f"{command.amount} is too much")
    wallet = await repository.get(command.wallet_id)
    wallet.record(Paid(amount=command.amount))
    return wallet.total


@router.event
async def on_paid(
    event: Paid, envelope: Envelope, wallets: Documents[WalletView], outbox: Outbox
) -> None:
    wallet = await wallets.get(envelope.stream.partition("-")[2])
    if wallet is not None and wallet.thanks == 0:
        outbox.send(Thank(wallet_id=wallet.id))


@router.query
async def rich(query: Rich, wallets: Documents[WalletView]) -> list[str]:
    found = await wallets.find({"total": {"$gte": query.least}}, sort=[("_id", 1)])
    return [wallet.id for wallet in found]


@router.event
async def on_thanked(event: Thanked, session: Session) -> None:
    await session.documents("letters").update("a", {"$inc": {"count": 1}})


async def slow(command: Thank, repository: Repository[Wallet]) -> None:
    await asyncio.sleep(0)
    (await repository.get(command.wallet_id)).record(Thanked())


def spend(wallet: Wallet, amount: int) -> int:
    if amount > wallet.total:
        raise ValueError("not enough")
    wallet.record(Paid(amount=-amount))
    return wallet.total


def test_a_method_is_called_on_the_aggregate_that_its_events_make() -> None:
    purse = given(Wallet, "a", Paid(amount=3), Paid(amount=4))
    purse.when(spend, 5).then(Paid(amount=-5)).returns(2)
    purse.when(spend, amount=9).raises(ValueError, "not enough")
    given(Wallet, "a").when(spend, 0).then(Paid(amount=0))


def test_a_command_handler_runs_with_what_it_asks_for() -> None:
    purse = given(Wallet, "a", Paid(amount=3))
    provide = {Spender: Spender()}
    paid = purse.when_handled(Pay(wallet_id="a", amount=4), by=pay, provide=provide)
    paid.then(Paid(amount=4)).sends().returns(7)
    purse.when_handled(Pay(wallet_id="b", amount=4), by=pay, provide=provide).raises(
        AggregateNotFound
    )


async def test_it_works_within_a_loop_too() -> None:
    given(Wallet, "a", Paid(amount=3)).when_handled(
        Pay(wallet_id="a", amount=4), by=pay, provide={Spender: Spender()}
    ).then(Paid(amount=4))


async def test_a_handler_that_waits_for_something_else_is_told_where_it_may() -> None:
    with pytest.raises(AssertionError, match="plain `def`"):
        given(Wallet, "a", Paid(amount=3)).when_handled(Thank(wallet_id="a"), by=slow)


def test_a_handler_may_wait_where_no_loop_is_running() -> None:
    given(Wallet, "a", Paid(amount=3)).when_handled(Thank(wallet_id="a"), by=slow).then(Thanked())


def test_an_event_handler_reads_documents_and_sends_commands() -> None:
    event = Paid(amount=3)
    unthanked = given_documents({"a": WalletView(id="a", total=3)}).given(Wallet, "a", event)
    unthanked.when_handled(event, by=on_paid).sends(Thank(wallet_id="a")).then()
    thanked = given_documents({"a": WalletView(id="a", thanks=1)}).given(Wallet, "a", event)
    thanked.when_handled(event, by=on_paid).sends()


def test_an_event_handler_writes_by_its_session() -> None:
    handled = given(Wallet, "a").when_handled(Thanked(), by=on_thanked)
    handled.writes("letters", {"a": {"count": 1}}).writes("others", {}).sends()
    with pytest.raises(AssertionError, match=r"(?s)in letters: none.*'count': 1"):
        handled.writes("letters", {})


def test_a_query_handler_answers_from_the_documents() -> None:
    there = given_documents({name: WalletView(id=name, total=n) for n, name in enumerate("abc")})
    there.when_handled(Rich(least=1), by=rich).returns(["b", "c"])


def test_a_projection_folds_what_was_given() -> None:
    folded = given(Wallet, "a", Paid(amount=3), Thanked()).given(Wallet, "b", Paid(amount=1))
    folded.given(Wallet, "a", Paid(amount=5)).project(ledgers()).then(
        {"a": Ledger(id="a", entries=[3, 0, 5]), "b": {"entries": [1]}}
    )


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda o: o.then(Paid(amount=2)), r"expected events: \n  Paid\(amount=2.*there came: \n"),
        (lambda o: o.then(), r"expected events: none\nthere came: \n  Paid\(amount=-1"),
        (lambda o: o.sends(Thank(wallet_id="a")), r"Thank\(wallet_id='a'\)\nthere came: none"),
        (lambda o: o.returns(5), "expected the result 5, and 2 came"),
        (lambda o: o.raises(ValueError), "expected ValueError, and it went through with \n  Paid"),
    ],
)
def test_a_failure_says_what_was_expected_and_what_came(check: Any, message: str) -> None:
    outcome = given(Wallet, "a", Paid(amount=3)).when(spend, 1)
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check(outcome)


def test_an_error_nobody_expected_is_shown_and_chained() -> None:
    outcome = given(Wallet, "a").when(spend, 1)
    with pytest.raises(AssertionError, match="it raised: ValueError") as caught:
        outcome.then()
    assert caught.value.__cause__ is outcome.error
    with pytest.raises(AssertionError, match="expected KeyError, and it raised ValueError"):
        outcome.raises(KeyError)
    with pytest.raises(AssertionError, match="with 'other'"):
        outcome.raises(ValueError, "other")


def test_documents_that_differ_are_shown() -> None:
    folded = given(Wallet, "a", Paid(amount=3)).project(ledgers())
    with pytest.raises(AssertionError, match=r"(?s)b: .*there came: \n  a: "):
        folded.then({"b": Ledger(id="b")})


def test_an_aggregate_is_to_be_given_first() -> None:
    with pytest.raises(AssertionError, match="give an aggregate first"):
        given_documents({}).when(spend, 1)


def test_a_class_method_makes_the_aggregate() -> None:
    class Opened(Event):
        owner: str

    class Account(Wallet, events=[Opened]):
        @classmethod
        def open(cls, id: str, owner: str) -> "Account":
            account = cls(id)
            account.record(Opened(owner=owner))
            return account

    given(Account, "a").when(Account.open, "a", owner="Ada").then(Opened(owner="Ada"))


def test_a_stored_event_that_its_class_cannot_read_is_told_by_its_place() -> None:
    class Earlier(Event, name="Paid"):
        sum_in_cents: int

    with pytest.raises(InvalidMessage, match=r"^wallet-w1, version 1: .* Paid: .*: Field required"):
        given(Wallet, "w1", Earlier(sum_in_cents=5))


def test_a_change_that_is_refused_is_told_by_handler_and_projection() -> None:
    projection = Projection("purses", of=[Wallet], view=WalletView)

    @projection.on(Paid)
    def spent(event: Paid) -> list[tuple[str, Update]]:
        return [("a", {"$set": {"owner": "Ada"}}), ("a", {"$inc": {"owner": 1}})]

    where = r"spent \(projection 'purses'\): .*, \$inc of 'owner': the field is text, and"
    with pytest.raises(ProjectionError, match=where):
        given(Wallet, "w1", Paid(amount=5)).project(projection)


class Walker(Aggregate):
    total: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Paid():
                self.total += event.amount

    async def walk(self, amount: int) -> int:
        await asyncio.sleep(0)
        self.record(Paid(amount=amount))
        return self.total

    async def run(self, amount: int) -> int:
        self.record(Paid(amount=amount))
        return self.total

    async def fall(self) -> None:
        raise ValueError("fell")

    @classmethod
    async def begin(cls, id: str) -> "Walker":
        walker = cls(id)
        walker.record(Paid(amount=1))
        return walker


def test_an_async_method_is_awaited() -> None:
    given(Walker, "w").when(Walker.walk, 2).then(Paid(amount=2)).returns(2)
    given(Walker, "w").when(Walker.begin, "w").then(Paid(amount=1))
    given(Walker, "w").when(Walker.fall).raises(ValueError, "fell")


async def test_an_async_method_is_awaited_within_a_loop_where_it_waits_for_nothing() -> None:
    given(Walker, "w").when(Walker.run, 2).then(Paid(amount=2)).returns(2)
    with pytest.raises(AssertionError, match="write the test as a plain `def`"):
        given(Walker, "w").when(Walker.walk, 2)


def spent() -> Any:
    return given(Wallet, "a", Paid(amount=3)).when(spend, 1)


begin: Any = given
begin_documents: Any = given_documents


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: begin(Pay, "a"), r"takes the class of an aggregate first, .* <class .*Pay"),
        (lambda: begin(Wallet, "a", "Paid"), "takes an Event, and this is of type str"),
        (lambda: begin(Wallet, "a", Paid), "takes an Event, and this is a class: make an object"),
        (lambda: begin(Wallet, "a").when("pay"), r"takes a method of Wallet, and this is 'pay'"),
        (lambda: begin(Wallet, "a").project(Wallet), "takes a Projection, and this is <class"),
        (lambda: begin(Wallet, "a").when_handled(Pay, by=pay), "and this is a class: make an obj"),
        (
            lambda: begin(Wallet, "a").when_handled(Thanked(), by=on_paid),
            "on_paid.: it handles Paid, and this is of type Thanked",
        ),
        (lambda: begin_documents([Pay]), "takes documents by their keys, and this is of type list"),
        (lambda: begin_documents({"a": 1}), "takes views, and 'a' is of type int"),
        (lambda: begin_documents({"a": {"total": 1}}), "takes views, and 'a' is of type dict"),
        (lambda: begin_documents({1: WalletView(id="1")}), "which are text, and 1 is of type int"),
        (lambda: begin(Wallet("a"), "a"), r"itself; write given\(Wallet, 'a', ...\)"),
        (lambda: begin(Wallet, 5), "the id of a Wallet must be text"),
        (lambda: begin(Wallet, "a", Stray()), "Wallet records Stray, which its apply"),
        (lambda: begin(Wallet, "a", [Paid(amount=1)]), r"write given\(\*messages\)"),
        (lambda: spent().then([Paid(amount=-1)]), r"is a list of them; write then\(\*messages\)"),
        (lambda: spent().then(Paid), "takes an Event, and this is a class: make an object"),
        (lambda: spent().sends(Paid(amount=1)), "takes a Command, and Paid is an Event"),
        (lambda: spent().raises(ValueError("x")), r"raises\(...\) takes a class of exceptions"),
        (lambda: spent().raises(KeyboardInterrupt), "takes a class of exceptions, .*Interrupt"),
        (lambda: spent().writes("letters", []), "documents by their keys, .* is of type list"),
        (lambda: begin(Wallet, "a").project(ledgers()).then([]), "documents by their keys"),
        (
            lambda: begin_documents({"a": Ledger(id="a")}).when_handled(Rich(least=1), by=rich),
            r"reads documents of WalletView, and those of Ledger were given",
        ),
    ],
)  # fmt: skip
def test_what_is_given_of_another_kind_is_told(wrong: Any, told: str) -> None:
    with pytest.raises((AssertionError, InvalidMessage, ConfigurationError), match=told):
        wrong()


class Stray(Event):
    """Of no aggregate here."""


class Labelled(Event):
    tags: set[Any] = Field(default_factory=set)
    price: Decimal = Decimal(0)
    at: datetime | None = None


class Label(Command):
    tags: frozenset[str]


class Shelf(Aggregate):
    def apply(self, event: Event) -> None:
        match event:
            case Labelled():
                pass

    def label(self, **fields: Any) -> None:
        self.record(Labelled(**fields))


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ({"tags": {1, 9}}, {"tags": {9, 1}}),
        ({"tags": {"a", "b", "c", "d"}}, {"tags": {"d", "c", "b", "a"}}),
        ({"price": Decimal("5")}, {"price": Decimal("5.0")}),
        ({"at": NOON}, {"at": NOON.astimezone(timezone(timedelta(hours=2)))}),
    ],
)
def test_events_are_compared_as_events_are_equal(came: Any, expected: Any) -> None:
    assert Labelled(**came) == Labelled(**expected)
    given(Shelf, "a").when(Shelf.label, **came).then(Labelled(**expected))


def test_commands_are_compared_as_commands_are_equal() -> None:
    async def on_labelled(event: Labelled, outbox: Outbox) -> None:
        outbox.send(Label(tags=frozenset("abcdefgh")))

    handled = given(Shelf, "a").when_handled(Labelled(), by=on_labelled)
    handled.sends(Label(tags=frozenset("hgfedcba")))
    with pytest.raises(AssertionError, match="Label, number 1: tags: expected frozenset"):
        handled.sends(Label(tags=frozenset("abc")))


def test_what_differs_is_told_by_its_field() -> None:
    labelled = given(Shelf, "a").when(Shelf.label, tags={1, 9}, price=Decimal(5))
    with pytest.raises(AssertionError) as caught:
        labelled.then(Labelled(tags={9, 1}, price=Decimal(6)))
    _, told = str(caught.value).split("they differ: ")
    assert told == ("\n  Labelled, number 1: price: expected Decimal('6'), and Decimal('5') came")


def test_documents_are_compared_by_what_stores_keep_of_them() -> None:
    async def on_labelled(event: Labelled, session: Session) -> None:
        await session.documents("shelves").update("a", {"$set": {"tags": {2, 1}, "n": 1}})

    handled = given(Shelf, "a").when_handled(Labelled(), by=on_labelled)
    handled.writes("shelves", {"a": {"tags": {1, 2}, "n": 1}})
    with pytest.raises(AssertionError, match="they differ: \n  a: n: expected 2, and 1 came"):
        handled.writes("shelves", {"a": {"tags": {1, 2}, "n": 2}})
