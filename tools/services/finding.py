"""Where the services are: in the environment, kept, in Docker, or else private nodes of ours."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tools.services import docker, kept, later
from tools.services.errors import ServiceUnavailable
from tools.services.jars.kafka import KafkaNode
from tools.services.jars.search import ElasticsearchNode, OpenSearchNode
from tools.services.mariadb import MariaDBNode
from tools.services.mongodb import MongoNode
from tools.services.mysql import MySQLNode
from tools.services.node import Node
from tools.services.ports import places, reachable
from tools.services.postgresql import PostgreSQLNode
from tools.services.progress import say
from tools.services.rabbitmq import RabbitMQNode

Origin = Literal["environment", "kept", "docker", "private", "memory", "none"]

RABBITMQ, MONGODB = "rabbitmq", "mongodb"
EVERYTHING = (RABBITMQ, MONGODB)
"""What is found or started where nobody says otherwise."""
SQL: dict[str, type[PostgreSQLNode | MariaDBNode | MySQLNode]] = {
    "postgresql": PostgreSQLNode,
    "mariadb": MariaDBNode,
    "mysql": MySQLNode,
}
JAVA: dict[str, type[KafkaNode | OpenSearchNode | ElasticsearchNode]] = {
    "kafka": KafkaNode,
    "opensearch": OpenSearchNode,
    "elasticsearch": ElasticsearchNode,
}
MORE = (*SQL, *JAVA)
"""What is found or started where somebody asks for it."""
Kind = type[
    RabbitMQNode
    | MongoNode
    | PostgreSQLNode
    | MariaDBNode
    | MySQLNode
    | KafkaNode
    | OpenSearchNode
    | ElasticsearchNode
]
KINDS: dict[str, Kind] = {RABBITMQ: RabbitMQNode, MONGODB: MongoNode, **SQL, **JAVA}
LABELS = {name: kind.label for name, kind in KINDS.items()}
VARIABLES = {name: kind.variable for name, kind in KINDS.items()}
MEMORY_URL = "memory://"


@dataclass(frozen=True)
class Place:
    """Where one service is, who put it there, and our node if it is one."""

    url: str = ""
    origin: Origin = "none"
    node: Node | None = None


@dataclass(frozen=True)
class Found:
    """The services that were asked for; of one that was not, an empty URL and origin `none`."""

    amqp_url: str
    mongo_url: str
    amqp_origin: Origin
    mongo_origin: Origin
    rabbitmq: RabbitMQNode | None
    mongodb: MongoNode | None
    sql: Mapping[str, Place] = field(default_factory=dict)
    """The SQL servers that were asked for, by their names here."""
    java: Mapping[str, Place] = field(default_factory=dict)
    """Kafka and the search engines that were asked for, by their names here."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Of what may be missing, what cannot be had, and why."""
    asked_at: str = ""
    """Where to ask for what is started later; empty where that is nothing."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that hand these services to a command."""
        urls = {VARIABLES[RABBITMQ]: self.amqp_url, VARIABLES[MONGODB]: self.mongo_url}
        urls |= {VARIABLES[name]: place.url for name, place in {**self.sql, **self.java}.items()}
        urls |= {why_missing(name): why for name, why in self.missing.items()}
        urls |= {later.ADDRESS: self.asked_at}
        return {variable: url for variable, url in urls.items() if url}


@contextmanager
def services(
    need: Iterable[str] = EVERYTHING,
    *,
    folder: Path | None = None,
    kept_folder: Path = kept.FOLDER,
    allow_memory: bool = False,
    optional: Sequence[str] = (),
    on_demand: Sequence[str] = (),
) -> Iterator[Found]:
    """Find or start the services; what was started here is stopped at the end.

    Private nodes live in `folder` and leave their data there; without it, in a temporary folder
    that goes with them. With `allow_memory` a RabbitMQ that cannot be had becomes `memory://`, and
    of what is `optional` it is said why it is missing. What is `on_demand` and does not run already
    is started once somebody asks for it (`later.ask`). Raises `ServiceUnavailable` where another
    service cannot be had.
    """
    wanted = _checked([*need, *optional])
    with ExitStack() as ending:
        found = standing(_checked([*wanted, *on_demand]), kept_folder)
        found |= _in_docker(_missing(wanted, found), ending)
        started, unavailable = _private(_missing(wanted, found), folder, ending)
        found |= started
        if allow_memory and RABBITMQ in unavailable:
            found[RABBITMQ] = _in_memory(unavailable.pop(RABBITMQ))
        for name, error in unavailable.items():
            if name not in optional:
                raise error
            say(f"{error}\nGoing on without {LABELS[name]}.")
        asked_at = _on_demand(_missing(on_demand, found), folder, ending)
        missing = {name: str(error) for name, error in unavailable.items()}
        yield replace(found_at(found, missing), asked_at=asked_at)


def why_missing(name: str) -> str:
    """The variable that tells why a service cannot be had."""
    return VARIABLES[name].replace("_URL", "_MISSING")


def standing(wanted: Iterable[str], kept_folder: Path) -> dict[str, Place]:
    """What runs already: in the environment's URLs first, then what `up` keeps."""
    found = _in_environment(wanted)
    return _kept(_missing(wanted, found), kept_folder) | found


def found_at(places_by_name: Mapping[str, Place], missing: Mapping[str, str]) -> Found:
    """What is found, of services by name and of what is missing."""
    amqp = places_by_name.get(RABBITMQ, Place())
    mongo = places_by_name.get(MONGODB, Place())
    return Found(
        amqp_url=amqp.url,
        mongo_url=mongo.url,
        amqp_origin=amqp.origin,
        mongo_origin=mongo.origin,
        rabbitmq=amqp.node if isinstance(amqp.node, RabbitMQNode) else None,
        mongodb=mongo.node if isinstance(mongo.node, MongoNode) else None,
        sql={name: place for name, place in places_by_name.items() if name in SQL},
        java={name: place for name, place in places_by_name.items() if name in JAVA},
        missing=missing,
    )


def start_in_docker(wanted: list[str]) -> tuple[dict[str, Place], list[str]]:
    """The services in Docker, and which of them were started for it; none where it fails."""
    if not wanted or not docker.is_running():
        return {}, []
    say("Starting the services in Docker ...")
    try:
        started = docker.up(wanted)
    except ServiceUnavailable as error:
        say(f"{error}\nGoing on with private nodes.")
        return {}, []
    return {name: Place(docker.url(name), "docker") for name in wanted}, started


def make_nodes(wanted: Iterable[str], home: Path, *, detached: bool = False) -> dict[str, Node]:
    return {name: KINDS[name](home / name, detached=detached) for name in wanted}


def start_together(nodes: Mapping[str, Node]) -> dict[str, ServiceUnavailable]:
    """Start nodes at once; returns those that cannot be had. On any other error none is left."""
    with ThreadPoolExecutor(max_workers=max(len(nodes), 1)) as threads:
        try:
            starts = {name: threads.submit(node.start) for name, node in nodes.items()}
            failures = {name: start.exception() for name, start in starts.items()}
        except BaseException:
            # Interrupted: the threads only end once their nodes have.
            for node in nodes.values():
                node.close()
            raise
    unavailable: dict[str, ServiceUnavailable] = {}
    for name, failure in failures.items():
        match failure:
            case None:
                continue
            case ServiceUnavailable():
                unavailable[name] = failure
            case _:
                raise failure
    return unavailable


def _checked(need: Iterable[str]) -> list[str]:
    wanted = list(dict.fromkeys(need))
    unknown = [name for name in wanted if name not in KINDS]
    if unknown:
        raise ValueError(f"services(need=...): {unknown[0]!r} is none of {', '.join(KINDS)}")
    return wanted


def _missing(wanted: Iterable[str], found: Mapping[str, Place]) -> list[str]:
    return [name for name in wanted if name not in found]


def _in_environment(wanted: Iterable[str]) -> dict[str, Place]:
    given = {name: os.environ.get(VARIABLES[name], "") for name in wanted}
    for name, url in given.items():
        _require_reachable(VARIABLES[name], url)
    return {
        name: Place(url, "memory" if url == MEMORY_URL else "environment")
        for name, url in given.items()
        if url
    }


def _require_reachable(variable: str, url: str) -> None:
    if url and url != MEMORY_URL and not reachable(url):
        # Host and port only: a URL may hold a password.
        where = ", ".join(f"{host}:{port}" for host, port in places(url))
        raise ServiceUnavailable(
            f"{variable} names {where}, where nothing answers: start that server, or unset "
            f"{variable} and bin/services finds or starts one"
        )


def _kept(wanted: Iterable[str], folder: Path) -> dict[str, Place]:
    state = kept.read(folder)
    return {
        name: Place(state[name].url, "kept")
        for name in wanted
        if name in state and reachable(state[name].url)
    }


def _in_docker(wanted: list[str], ending: ExitStack) -> dict[str, Place]:
    found, started = start_in_docker(wanted)
    ending.callback(docker.stop, started)
    return found


def _private(
    wanted: list[str], folder: Path | None, ending: ExitStack
) -> tuple[dict[str, Place], dict[str, ServiceUnavailable]]:
    """Our nodes that run now, and those that cannot be had."""
    if not wanted:
        return {}, {}
    home = folder or _temporary_folder(ending)
    nodes = make_nodes(wanted, home)
    for node in nodes.values():
        ending.callback(node.close, remove=folder is None)
    unavailable = start_together(nodes)
    started = {name: node for name, node in nodes.items() if name not in unavailable}
    return {n: Place(node.url, "private", node) for n, node in started.items()}, unavailable


def _on_demand(wanted: list[str], folder: Path | None, ending: ExitStack) -> str:
    """Have services started for those who ask; returns where that is."""
    if not wanted:
        return ""
    nodes = make_nodes(wanted, folder or _temporary_folder(ending))
    for node in nodes.values():
        ending.callback(node.close, remove=folder is None)
    in_docker: list[str] = []
    ending.callback(docker.stop, in_docker)

    def start(name: str) -> str:
        found, started = start_in_docker([name])
        in_docker.extend(started)
        if found:
            return found[name].url
        nodes[name].start()
        return nodes[name].url

    # Entered last, left first: once nodes are closed, nobody asks for one.
    return ending.enter_context(later.Starter(wanted, start)).address


def _in_memory(error: ServiceUnavailable) -> Place:
    say(f"{error}\nGoing on without RabbitMQ, on the in-memory transport ({MEMORY_URL}).")
    return Place(MEMORY_URL, "memory")


def _temporary_folder(ending: ExitStack) -> Path:
    folder = tempfile.mkdtemp(prefix="doubledecker-")
    ending.callback(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
