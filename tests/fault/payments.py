"""Payments under fire: what was asked for, against what became of it."""

import asyncio
from collections.abc import Callable

from bus import Bus, Settings
from bus.testing import World
from tests.service.wallet import Diary, GetWallet, Pay, WalletView, build, ledgers

WALLETS = ["a", "b", "c"]
PAYMENTS = 4


def wallets(diary: Diary) -> Callable[[Settings], Bus]:
    """How to build the wallets' bus; what its event handlers do is in the diary."""
    return lambda settings: build(settings, diary, also=[ledgers()])


async def pay(world: World) -> None:
    """Pays into several wallets at once, into each in order; each payment is to be thanked for."""

    async def one(wallet: str) -> None:
        for amount in range(1, PAYMENTS + 1):
            await world.execute(Pay(wallet_id=wallet, amount=amount, mood="grateful"))

    await asyncio.gather(*map(one, WALLETS))


async def check(world: World, diary: Diary) -> None:
    """Nothing lost, nothing twice, everything in its stream's order, nobody given up."""
    total = PAYMENTS * (PAYMENTS + 1) // 2
    for wallet in WALLETS:
        logged = await log_of(world, wallet)
        paid = [amount for amount in logged if amount]
        assert paid == list(range(1, PAYMENTS + 1)), f"{world}: stored {logged}"
        assert len(logged) == 2 * PAYMENTS, f"{world}: stored {logged}"
        assert await ledger_of(world, wallet) == logged, f"{world}: not the fold of the log"
        found = await world.query(GetWallet(wallet_id=wallet))
        assert found == WalletView(id=wallet, total=total, thanks=PAYMENTS), str(world)
        handled = {version for stream, version in diary.seen if stream == f"wallet-{wallet}"}
        assert len(handled) == PAYMENTS, f"{world}: handled {handled}"
    assert await world.dead_letters() == []


async def log_of(world: World, wallet: str) -> list[int]:
    commits = await world.event_log.read(f"wallet-{wallet}")
    return [event.data.get("amount", 0) for commit in commits for event in commit.events]


async def ledger_of(world: World, wallet: str) -> list[int]:
    documents = world.collections.documents(ledgers().target())
    found = await documents.find_one({"_id": wallet})
    return found["entries"] if found else []
