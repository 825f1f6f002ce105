"""A projection that is new to a history, built from the log into a table."""

from bench.comparison import Comparison, Goal, Side
from bench.projecting_sql import MARIADB, OWN, POSTGRESQL, case

HISTORY = {"count": 1_000_000, "streams": 50_000}
QUICK = {"count": 60_000, "streams": 5000}

BENCHMARK = Comparison(
    "rebuilding_sql",
    "events/s from the start of the work until every row is as the history makes it",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("bare, asyncpg", "bare_asyncpg.py", cases=POSTGRESQL),
        Side("bare, aiomysql", "bare_aiomysql.py", cases=MARIADB),
    ],
    cases=[case(label, HISTORY, quick=QUICK) for label in (*POSTGRESQL, *MARIADB)],
    goals=[
        Goal("bare, asyncpg", at_least=0.5, cases=[f"PostgreSQL, {OWN}"]),
        Goal("bare, aiomysql", at_least=0.5, cases=[f"MariaDB, {OWN}"]),
    ],
    rounds=1,
    quick_rounds=2,
    also=("client_cpu_ms", "memory_mb"),
    sql=("postgresql", "mariadb"),
)
