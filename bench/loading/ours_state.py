"""Our side with accounts that are stored by their state."""

from bench import side
from bench.loading.ours import drive
from bench.loading.service import StateAccount


async def drive_state(arguments: side.Arguments) -> side.Metrics:
    return await drive(arguments, StateAccount)


if __name__ == "__main__":
    side.run(drive_state)
