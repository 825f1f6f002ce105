"""Our side with two worker processes, which share the work."""

from bench import side
from bench.rebuilding.ours import drive_two, work

if __name__ == "__main__":
    side.run(drive_two, worker=work)
