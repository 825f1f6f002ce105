"""Nobody watches."""

from bench import side
from bench.projecting.ours import drive, work

if __name__ == "__main__":
    side.run(drive, worker=work)
