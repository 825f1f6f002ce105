"""Servers of a test's own, which it may break."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from tools.services.node import Node

AnyNode = TypeVar("AnyNode", bound=Node)


@contextmanager
def lent(node: AnyNode) -> Iterator[AnyNode]:
    """Runs it for the block; nobody reads its data afterwards, so it is not ended cleanly."""
    try:
        node.start()
        yield node
    finally:
        node.close(remove=True)


def revive(*nodes: Node) -> None:
    """Has them run, whatever a test that failed has left: frozen, or ended."""
    for node in nodes:
        if node.running:
            node.resume()
        else:
            node.start()
