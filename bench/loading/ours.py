"""Our side: what a command's handler gets from its repository, in a unit of work each."""

from bench import side
from bench.loading.service import Account, build, fill, timed
from bus import Command
from bus.codec import new_envelope
from bus.write.unit_of_work import UnitOfWork


class Deposit(Command):
    account_id: str


async def drive(
    arguments: side.Arguments, kind: type[Account] = Account, *, snapshots: bool = False
) -> side.Metrics:
    async with build(arguments["service"]) as bus:
        await fill(bus, arguments, kind, snapshots=snapshots)
        runtime = bus.runtime

        async def load(id: str) -> int:
            envelope = new_envelope(Deposit(account_id=id))
            work = UnitOfWork(
                envelope.id, runtime.service, envelope, runtime.event_log, runtime.publisher
            )
            account = await work.repository(kind).get(id)
            return account.deposits

        return await timed(load, arguments)


if __name__ == "__main__":
    side.run(drive)
