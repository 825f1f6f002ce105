"""A backlog in a projection's queue, projected into a table of PostgreSQL or MariaDB."""

from bench.comparison import Case, Comparison, Goal, Side

OWN, SHARED = "a row for each stream", "rows of several streams"
POSTGRESQL = tuple(f"PostgreSQL, {kind}" for kind in (OWN, SHARED))
MARIADB = tuple(f"MariaDB, {kind}" for kind in (OWN, SHARED))


def case(label: str) -> Case:
    """What its label says."""
    database, _, kind = label.partition(", ")
    rows = "documents" if kind == OWN else "checkpoints"
    arguments = {"database": database.lower(), "kind": rows, "count": 60_000, "streams": 5000}
    return Case(label, arguments, quick={"count": 20_000})


BENCHMARK = Comparison(
    "projecting_sql",
    "events/s from the start of consuming until every row is as the whole backlog makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("bare, asyncpg", "bare_asyncpg.py", cases=POSTGRESQL),
        Side("bare, aiomysql", "bare_aiomysql.py", cases=MARIADB),
    ],
    cases=[case(label) for label in (*POSTGRESQL, *MARIADB)],
    goals=[
        Goal("bare, asyncpg", at_least=0.8, cases=POSTGRESQL),
        Goal("bare, aiomysql", at_least=0.8, cases=MARIADB),
    ],
    rounds=3,
    also=("client_cpu_ms", "memory_mb"),
    sql=("postgresql", "mariadb"),
)
