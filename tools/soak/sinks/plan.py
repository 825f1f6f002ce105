"""Names of what is kept elsewhere, and of the service that is fed from Kafka. Pure data."""

POSTGRESQL, MARIADB, KAFKA = "postgresql", "mariadb", "kafka"
OPENSEARCH, ELASTICSEARCH = "opensearch", "elasticsearch"
SQL = (POSTGRESQL, MARIADB)
SEARCH = (OPENSEARCH, ELASTICSEARCH)
SINKS = (*SQL, *SEARCH, KAFKA)

JOBS, AMOUNTS = "jobs", "amounts"
KINDS = (JOBS, AMOUNTS)
SENT = "sent_to_kafka"
"""The projection that sends events to `TOPIC`."""
TOPIC = "soak_events"

FED = "fedsoak"
"""The service that is fed from it, and its database."""
FED_TARGET = "tools.soak.sinks.fed:build"
FED_WORKERS = ("fed-1", "fed-2")

URLS = "SOAK_SINKS"
"""The environment's name for the stores with their URLs, as JSON."""


def name_in(store: str, what: str) -> str:
    """The projection that is kept in a store."""
    return f"{what}_in_{store}"


def chosen(text: str) -> tuple[str, ...]:
    """The stores that `--sinks` names: `all`, or some by comma. Raises: ValueError."""
    names = SINKS if text == "all" else tuple(text.split(","))
    if unknown := [name for name in names if name not in SINKS]:
        raise ValueError(f"there is no sink {unknown[0]!r}; there are {', '.join(SINKS)}")
    return tuple(name for name in SINKS if name in names)
