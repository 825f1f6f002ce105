"""Our side with the event log in PostgreSQL, and its documents in MongoDB as before."""

import os

from bench import side
from bench.end_to_end.ours import drive, work

if __name__ == "__main__":
    os.environ["BUS_LOG_URL"] = os.environ["BENCH_POSTGRESQL_URL"]
    side.run(drive, worker=work)
