"""PostgreSQL, MariaDB and MySQL, by SQLAlchemy: the event log, and tables of projections.

In the order in which to read:

event_log     a row for each commit
log           reading commits: for the read deck, and for aggregates
settling      appends that share a statement, each with its own outcome
states        snapshots and states (a folder)
queries       reading commits for people
moving        copies of another log's commits, and the fence (a folder)
rows          commits as rows
dialects      what each database does in its own way
engine        connections, and the server's clock
reaching      how the server is reached: by TLS (a folder)
failures      what an error of a driver means
schema        the tables
migrations    makes them, and brings them to this release's version

`sessions` has what handlers and applications write beside their commits, `keeping` what a service
without MongoDB keeps besides, `tables` projections that are kept in tables.
"""

from bus.errors import ConfigurationError

try:
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError:
    raise ConfigurationError(
        "an event log in SQL (BUS_LOG_URL), or a SqlTable, needs SQLAlchemy, which is not "
        "installed: pip install 'doubledecker[postgresql]', or 'doubledecker[mysql]' for MariaDB "
        "and MySQL"
    ) from None

from bus.stores.sql.engine import connect
from bus.stores.sql.event_log import SqlEventLog
from bus.stores.sql.keeping import LogNotes, NoCollections, SqlControl
from bus.stores.sql.migrations import migrating
from bus.stores.sql.sessions import Joining, SqlEffects
from bus.stores.sql.tables import SqlTable

__all__ = [
    "Joining",
    "LogNotes",
    "NoCollections",
    "SqlControl",
    "SqlEffects",
    "SqlEventLog",
    "SqlTable",
    "connect",
    "migrating",
]
