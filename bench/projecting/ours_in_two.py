"""Our side with two partitions, each with a worker process of its own."""

from bench import side
from bench.projecting.ours import drive_two, work

if __name__ == "__main__":
    side.run(drive_two, worker=work)
