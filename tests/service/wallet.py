"""A small service for tests of delivery: one aggregate, one projection, handlers that misbehave."""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from bus import (
    Aggregate,
    Bus,
    Command,
    Documents,
    Envelope,
    Event,
    Fault,
    Outbox,
    Projection,
    Query,
    Reject,
    Repository,
    Retry,
    RetryPolicy,
    Router,
    Settings,
    StoreUnavailable,
    Update,
)


class Pay(Command):
    wallet_id: str
    amount: int
    mood: str = ""


class Thank(Command):
    wallet_id: str


class Paid(Event):
    amount: int
    mood: str = ""


class Thanked(Event):
    pass


class Wallet(Aggregate):
    total: int = 0
    thanks: int = 0

    def apply(self, event: Event) -> None:
        match event:
            case Paid():
                self.total += event.amount
            case Thanked():
                self.thanks += 1


class WalletView(BaseModel):
    id: str
    total: int = 0
    thanks: int = 0


class Ledger(BaseModel):
    """What happened to a wallet, in order: amounts, and 0 for thanks."""

    id: str
    entries: list[int] = []


class GetWallet(Query[WalletView | None]):
    wallet_id: str


class Sum(BaseModel):
    """The wallets that were thanked for so often."""

    thanks: int | None
    wallets: int
    total: int


class SumUp(Query[list[Sum]]):
    at_least: int = 0


class Totals(Query[list[int]]):
    """What there is in wallets, each amount once."""


class Diary:
    """What the event handlers did, in order; `open` holds them back until it is set."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.tries: dict[str, int] = {}
        self.running = 0
        self.most_running = 0
        self.open = asyncio.Event()
        self.open.set()
        self.mended = False
        self.faults: list[Fault] = []


FEW = RetryPolicy(tries=2, pause=0.01, delays=(1,))
ONCE = RetryPolicy(tries=1, delays=())


class Hopeless(Exception):
    """Not worth a second try."""


class Storm(BaseException):
    """An author's own, that `except Exception` does not see."""


class Speechless(Exception):
    """Fails at saying what it is, as errors that quote a lost object may."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def payments(**options: Any) -> Router:
    """Pays and thanks; a fresh router each time, with these options."""
    router = Router("payments", **options)

    @router.command
    async def pay(command: Pay, repository: Repository[Wallet]) -> int:
        wallet = await repository.find(command.wallet_id)
        if wallet is None:
            wallet = Wallet(command.wallet_id)
            repository.add(wallet)
        wallet.record(Paid(amount=command.amount, mood=command.mood))
        return wallet.total

    @router.command
    async def thank(command: Thank, repository: Repository[Wallet]) -> None:
        (await repository.get(command.wallet_id)).record(Thanked())

    return router


def build(
    settings: Settings,
    diary: Diary | None = None,
    service: str = "wallets",
    also: Sequence[Projection[Any]] = (),
    time_limit: float = 3.0,
    **more: Any,
) -> Bus:
    """The bus of the wallets, and of further projections; a fresh set of routers each time. A test
    that holds handlers back gives them a longer `time_limit`, in seconds."""
    diary = diary or Diary()
    commands = payments(retry=FEW)
    thanking = Router(
        "thanking",
        concurrency=8,
        retry={Exception: FEW, Hopeless: ONCE, TimeoutError: ONCE},
        time_limit=time_limit,
    )
    complaints = Router("complaints", retry=ONCE)
    wallets = Projection("wallets", of=[Wallet], view=WalletView)

    @thanking.event
    async def on_paid(event: Paid, envelope: Envelope, diary: Diary, outbox: Outbox) -> None:
        diary.running += 1
        diary.most_running = max(diary.most_running, diary.running)
        try:
            await _moody(event, envelope, diary)
            await diary.open.wait()
            diary.seen.append((envelope.stream, envelope.version))
            if event.mood == "grateful":
                outbox.send(Thank(wallet_id=envelope.stream.partition("-")[2]))
        finally:
            diary.running -= 1

    @complaints.event
    async def on_fault(fault: Fault, diary: Diary) -> None:
        diary.faults.append(fault)
        if "complains" in fault.reason:
            raise RuntimeError("a fault of its own")

    @wallets.on(Paid)
    def paid(event: Paid) -> Update:
        if event.mood == "unprojectable" and not diary.mended:
            raise ValueError("cannot be projected")
        if event.mood == "exits" and not diary.mended:
            sys.exit("no more")
        if event.mood == "outage in a group" and not diary.mended:
            raise ExceptionGroup("several", GROUPED[event.mood])
        if event.mood == "unspeakable" and not diary.mended:
            raise Speechless
        return {"$inc": {"total": event.amount}, "$push": {"payments": event.amount}}

    @wallets.on(Thanked)
    def thanked(event: Thanked) -> Update:
        return {"$inc": {"thanks": 1}}

    @commands.query
    async def get_wallet(query: GetWallet, documents: Documents[WalletView]) -> WalletView | None:
        return await documents.get(query.wallet_id)

    @commands.query
    async def sum_up(query: SumUp, documents: Documents[WalletView]) -> list[Sum]:
        return await documents.group(
            "thanks",
            {"total": {"$gte": query.at_least}},
            totals={"wallets": {"$sum": 1}, "total": {"$sum": "$total"}},
            row=Sum,
        )

    @commands.query
    async def totals(query: Totals, documents: Documents[WalletView]) -> list[int]:
        return await documents.distinct("total")

    return Bus(
        service,
        routers=[commands, thanking, complaints],
        projections=[wallets, *also],
        settings=settings,
        provide={Diary: diary},
        **more,
    )


def ledgers() -> Projection[Ledger]:
    """A projection that shows what was applied twice, or out of order."""
    projection = Projection("ledgers", of=[Wallet], view=Ledger)

    @projection.on(Paid)
    def paid(event: Paid) -> Update:
        return {"$push": {"entries": event.amount}}

    @projection.on(Thanked)
    def thanked(event: Thanked) -> Update:
        return {"$push": {"entries": 0}}

    return projection


GROUPED: dict[str, list[Exception]] = {
    "hopeless in a group": [Hopeless("a"), Hopeless("b")],
    "rejects in a group": [Reject("never")],
    "later in a group": [Retry(delay=0.5), Reject("never")],
    "outage in a group": [Hopeless(), StoreUnavailable("the other database is away")],
    "fails in a group": [Hopeless(), ValueError("not yet")],
}
"""What a group of errors, within another group, holds."""


async def _moody(event: Paid, envelope: Envelope, diary: Diary) -> None:
    """Fails as the event says."""
    tries = diary.tries[envelope.id] = diary.tries.get(envelope.id, 0) + 1
    if event.mood == "always fails":
        raise RuntimeError("no way")
    if event.mood == "fails once" and tries == 1:
        raise RuntimeError("not yet")
    if event.mood == "blocks":
        time.sleep(3)  # noqa: ASYNC251 (what no handler should do)
    if event.mood == "blocks for long":
        time.sleep(6)  # noqa: ASYNC251 (the same, and longer than anybody waits for an answer)
    if event.mood == "cancels":
        raise asyncio.CancelledError
    if event.mood == "needs the ladder" and tries <= 2:
        raise RuntimeError("not yet")
    if event.mood == "later" and tries == 1:
        raise Retry(delay=0.5)
    if event.mood == "soon":
        raise Retry("soon")  # type: ignore[arg-type]
    if event.mood == "unspeakable":
        raise Speechless
    if event.mood == "hopeless":
        raise Hopeless
    if event.mood == "complains":
        raise Reject("complains")
    if event.mood == "exits":
        sys.exit("enough")
    if event.mood == "interrupts":
        raise KeyboardInterrupt
    if event.mood == "closes":
        raise GeneratorExit
    if event.mood == "storms":
        raise Storm
    if event.mood.endswith("in a group") and tries < 3:
        raise ExceptionGroup("several", [ExceptionGroup("within", GROUPED[event.mood])])
    if event.mood == "hangs":
        await asyncio.Event().wait()
    if event.mood == "rejects":
        raise Reject("never")
    if event.mood == "outage" and tries < 6:
        raise StoreUnavailable("the other database is away")
