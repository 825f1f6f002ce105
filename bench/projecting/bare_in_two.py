"""The consumer written by hand, in two processes with a queue each."""

from bench import side
from bench.projecting.bare import drive_two, work

if __name__ == "__main__":
    side.run(drive_two, worker=work)
