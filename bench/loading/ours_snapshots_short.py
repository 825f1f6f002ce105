"""Our side with snapshots, always with accounts of 10 events: what longer ones are held against."""

from bench import side
from bench.loading import BENCHMARK
from bench.loading.ours_snapshots import drive_quick

SHORT = BENCHMARK.cases[0].arguments


async def drive_short(arguments: side.Arguments) -> side.Metrics:
    return await drive_quick({**SHORT, "service": arguments["service"]})


if __name__ == "__main__":
    side.run(drive_short)
