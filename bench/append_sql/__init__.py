"""One event in one row after the other from each of many clients, on servers that flush each
commit to the disk, as they do by default."""

from bench.comparison import Case, Comparison, Goal, Side

POSTGRESQL = ("PostgreSQL, 64 concurrent", "PostgreSQL, 256 concurrent")
MARIADB = ("MariaDB, 64 concurrent", "MariaDB, 256 concurrent")


def case(label: str) -> Case:
    """What its label says."""
    database, _, concurrent = label.partition(", ")
    arguments = {"database": database.lower(), "concurrent": int(concurrent.split()[0])}
    return Case(label, {"count": 30_000, **arguments}, quick={"count": 15_000})


BENCHMARK = Comparison(
    "append_sql",
    "commits of one 500-byte event/s into the event log in SQL",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("asyncpg, a transaction each", "asyncpg_style.py", share=0.3, cases=POSTGRESQL),
        Side("eventsourcing", "eventsourcing_style.py", peer=True, share=0.2, cases=POSTGRESQL),
        Side("aiomysql, a transaction each", "aiomysql_style.py", share=0.3, cases=MARIADB),
    ],
    cases=[case(label) for label in (*POSTGRESQL, *MARIADB)],
    goals=[
        Goal("asyncpg, a transaction each", at_least=5, cases=POSTGRESQL),
        Goal("eventsourcing", at_least=10, cases=POSTGRESQL),
        Goal("aiomysql, a transaction each", at_least=5, cases=MARIADB),
    ],
    rounds=3,
    sql=("postgresql", "mariadb"),
)
