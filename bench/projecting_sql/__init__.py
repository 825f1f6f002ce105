"""A backlog in a projection's queue, projected into a table of PostgreSQL or MariaDB."""

from bench.comparison import Case, Comparison, Goal, Side
from bench.side import Arguments

OWN, SHARED = "a row for each stream", "rows of several streams"
POSTGRESQL = tuple(f"PostgreSQL, {kind}" for kind in (OWN, SHARED))
MARIADB = tuple(f"MariaDB, {kind}" for kind in (OWN, SHARED))


BACKLOG, QUICK = {"count": 60_000, "streams": 5000}, {"count": 20_000}


def case(label: str, events: Arguments, quick: Arguments) -> Case:
    """What its label says, of so many events."""
    database, _, kind = label.partition(", ")
    rows = "documents" if kind == OWN else "checkpoints"
    return Case(label, {"database": database.lower(), "kind": rows, **events}, quick=quick)


BENCHMARK = Comparison(
    "projecting_sql",
    "events/s from the start of consuming until every row is as the whole backlog makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("bare, asyncpg", "bare_asyncpg.py", cases=POSTGRESQL),
        Side("bare, aiomysql", "bare_aiomysql.py", cases=MARIADB),
    ],
    cases=[case(label, BACKLOG, QUICK) for label in (*POSTGRESQL, *MARIADB)],
    goals=[
        Goal("bare, asyncpg", at_least=0.8, cases=POSTGRESQL),
        Goal("bare, aiomysql", at_least=0.8, cases=MARIADB),
    ],
    rounds=3,
    also=("client_cpu_ms", "memory_mb"),
    sql=("postgresql", "mariadb"),
)
