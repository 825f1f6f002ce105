"""Our side: the worker of a service whose projection is new to its history."""

from bench import side
from bench.projecting_sql.ours import work
from bench.rebuilding_sql.bare import until_built

if __name__ == "__main__":
    side.run(until_built, worker=work)
