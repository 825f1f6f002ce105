"""The loop written by hand, over asyncpg."""

from functools import partial

from bench import side
from bench.projecting_sql.bare_asyncpg import upserting
from bench.rebuilding_sql.bare import drive, work

if __name__ == "__main__":
    side.run(drive, worker=partial(work, upserting))
