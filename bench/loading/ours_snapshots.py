"""Our side with a snapshot every 100 events."""

from bench import side
from bench.loading.ours import drive
from bench.loading.service import QuickAccount


async def drive_quick(arguments: side.Arguments) -> side.Metrics:
    return await drive(arguments, QuickAccount, snapshots=True)


if __name__ == "__main__":
    side.run(drive_quick)
