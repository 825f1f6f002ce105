"""Scraping: what a process answers for /metrics, as Prometheus reads it."""

import asyncio
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from tools.services.ports import LOOPBACK

Values = dict[frozenset[tuple[str, str]], float]


def asked(port: int) -> tuple[int, bytes]:
    """Returns the status, and the page."""
    connection = HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def page(port: int) -> bytes:
    """Returns the page; empty if nobody answers."""
    try:
        status, body = await asyncio.to_thread(asked, port)
    except OSError:
        return b""
    assert status == 200, body
    return body


def values(text: bytes, name: str) -> Values:
    """Returns the samples of a name, by their labels without `service`."""
    return {
        frozenset((key, value) for key, value in sample.labels.items() if key != "service"): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def total(text: bytes, name: str, **labels: str) -> float:
    """Returns the sum of the samples of a name that have these labels."""
    found = values(text, name).items()
    return sum(value for given, value in found if given >= labels.items())


def spread(text: bytes) -> dict[tuple[str, str], set[str]]:
    """Returns the values of each label of each metric of ours, but for a histogram's bounds."""
    found: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples if family.name.startswith("bus_") else ():
            for key, value in sample.labels.items():
                if key != "le":
                    found.setdefault((family.name, key), set()).add(value)
    return found
