"""Looks at the broker by the best source there is: an export, the management API, or AMQP."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from yarl import URL

from bus.transports.rabbitmq.declaring import apart
from bus.transports.rabbitmq.planning.amqp import Noted, look
from bus.transports.rabbitmq.planning.definitions import read_definitions
from bus.transports.rabbitmq.planning.found import Found
from bus.transports.rabbitmq.planning.management import ask_management
from bus.transports.topology import Topology


async def look_at(
    urls: Sequence[URL],
    topology: Topology,
    *,
    noted: Noted,
    definitions: Path | None = None,
    management_url: str = "",
    compares: bool = False,
    connect_timeout: float = 5.0,
) -> Found:
    """Returns what is at the broker: what the file of `definitions` says if one is given, otherwise
    what the management API says if it has a URL, otherwise what AMQP tells.

    `compares` and `noted` are those of AMQP alone. Raises: ConfigurationError,
    TransportUnavailable.
    """
    if definitions:
        return read_definitions(definitions, vhost_of(urls[0]))
    if management_url:
        return await ask_management(management_url, vhost_of(urls[0]))
    work = partial(look, topology=topology, compares=compares, noted=noted)
    return await apart(urls, connect_timeout, work, "looking at the topology", topology.service)


def vhost_of(url: URL) -> str:
    """Returns the virtual host of a URL, as the driver takes it."""
    return url.path[1:] or "/"
