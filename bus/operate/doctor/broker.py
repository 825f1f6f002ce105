"""RabbitMQ: whether it is reached, what it is, and whether it takes what the service sends."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bus.assembly.runtime import Runtime
from bus.errors import ConfigurationError, TransportUnavailable
from bus.observe.health import Finding, fault, fine, of_problem, warning
from bus.operate.doctor.patient import Patient, asked
from bus.settings import MEMORY
from bus.transports.rabbitmq.connection import checked_urls
from bus.transports.rabbitmq.declaring import apart
from bus.transports.rabbitmq.planning.amqp import try_rights
from bus.transports.rabbitmq.planning.management import nodes_by
from bus.transports.rabbitmq.refusals import right_remedy

OLDEST = (3, 10)
STOPS_QUEUES = (4, 3, 0), (4, 3, 5)
"""Releases that can stop a queue for good after a consumer_timeout (rabbitmq-server#17317)."""
ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "disk"}
FREE = "free memory or disk on the broker (rabbitmq-diagnostics alarms); what is stored waits"
LOOK = "see the log of RabbitMQ, and the findings beside this one"
OF_TOPOLOGY = "NOT_FOUND", "PRECONDITION_FAILED"
"""What RabbitMQ says of an exchange that is missing or of another type, which the topology tells.
"""
ENOUGH = 3
CONNECT_TIMEOUT = 3.0
TRY_WITHIN = 6.0
"""Seconds, for connecting and for what is tried then."""


async def examined(patient: Patient) -> list[Finding]:
    """Returns what the broker is, and what hinders work with it."""
    runtime = patient.runtime
    if runtime.settings.amqp_url == MEMORY:
        return [fine("in memory: nobody outside of this process is reached")]
    if not await patient.reaches("broker"):
        return []
    return [
        *of_version(runtime.transport.description),
        *await _nodes(runtime),
        *await _tried(patient),
        fine(f"retries: {runtime.transport.retries}"),
    ]


async def _tried(patient: Patient) -> list[Finding]:
    """Returns what tries to publish met. Under an alarm the first one may succeed, and the next
    ones are not answered."""
    transport = patient.runtime.transport
    tried = await asked("RabbitMQ", _rights(patient.runtime), patient.by_urls(TRY_WITHIN))
    if not tried:
        return []
    patient.looks_only.discard("broker")  # an alarm shows to who publishes
    told = [complaint.what for complaint in await patient.complaints("broker")]
    service = patient.runtime.service
    met = [_met(what, service) for what in told if not _is_of_topology(what)]
    met = met or tried
    if not transport.healthy and any("no answer" in finding.what for finding in met):
        return [fault("RabbitMQ accepts no messages: a memory or disk alarm", FREE, "G2")]
    return met


def _is_of_topology(what: str) -> bool:
    return any(words in what for words in OF_TOPOLOGY)


def _met(what: str, service: str) -> Finding:
    if "ACCESS_REFUSED" in what:
        return fault(what.partition("; ")[0], right_remedy(service), "G2")
    return of_problem(what, LOOK, "G2")


def of_version(description: str) -> Iterator[Finding]:
    """Yields what a release of RabbitMQ is, and what it is known to do."""
    number = tuple(map(int, re.findall(r"\d+", description)))
    yield fine(description)
    if number < OLDEST:
        yield warning(f"{description} is older than 3.10, the first that will do", "update it")
    first, last = STOPS_QUEUES
    if first <= number <= last:
        yield warning(
            f"{description} can stop a queue of a projection for good after a consumer_timeout",
            "update it, and have consumer_timeout be longer than any batch takes meanwhile",
            "G3",
        )


async def _nodes(runtime: Runtime) -> list[Finding]:
    if not runtime.settings.management_url:
        how = "set BUS_MANAGEMENT_URL to see them"
        return [fine(f"how many nodes there are, AMQP does not tell: {how}")]
    return await asked("the management API", _by_management(runtime.settings.management_url))


async def _by_management(url: str) -> list[Finding]:
    nodes = await nodes_by(url)
    if not nodes:
        return [
            fine("the user of BUS_MANAGEMENT_URL may not see nodes: it lacks the tag monitoring")
        ]
    alarms = [finding for node in nodes for finding in _alarms(node)]
    return [*alarms, *of_cluster(nodes)]


def _alarms(node: Mapping[str, Any]) -> Iterator[Finding]:
    for key, kind in ALARMS.items():
        if node.get(key):
            what = f"RabbitMQ accepts no messages: a {kind} alarm at the node {node['name']}"
            yield fault(what, FREE, "G2")


def of_cluster(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yields what nodes, as the management API lists them, can lose."""
    away = [str(node["name"]) for node in nodes if not node.get("running")]
    if away:
        what = f"{len(away)} of {len(nodes)} nodes do not run: {', '.join(away)}"
        yield fault(what, "start them: each queue needs a majority of its members", "G2")
    elif len(nodes) < ENOUGH:
        what = f"{len(nodes)} node(s): what waits in queues is lost with the disk"
        yield warning(what, "have three, as a cluster; quorum queues keep a copy on each", "G4")
    else:
        yield fine(f"{len(nodes)} nodes, all of them running")


async def _rights(runtime: Runtime) -> list[Finding]:
    """Returns what its user may do; nothing if the exchange of commands is not as it should be."""
    settings = runtime.settings
    declares = settings.declare == "always"
    work = partial(try_rights, service=runtime.service, declares=declares)
    urls = checked_urls(settings.amqp_urls, settings.heartbeat)
    try:
        await apart(urls, CONNECT_TIMEOUT, work, "trying rights", runtime.service, timeout=3.0)
    except TransportUnavailable as error:
        if _is_of_topology(str(error)):
            return []
        raise
    except ConfigurationError as error:
        if declares or "amq.default" not in str(error):
            raise
        what = "its user may not write to amq.default: enough for an API, but not for a worker"
        return [warning(what, right_remedy(runtime.service), "G7")]
    does = "write and declare" if declares else "write"
    return [fine(f"its user may {does} what this service needs")]
