"""A cluster of private RabbitMQ nodes, whose members can be killed, frozen and brought back."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.services.entered import Entered
from tools.services.errors import CommandFailed, ServiceUnavailable
from tools.services.rabbitmq import RabbitMQNode

REJOIN_SECONDS = 50.0


class RabbitCluster(Entered):
    """Three nodes (or as many as `size` says), started together: some 20 s on a small machine.

    Queues declared while all run have a member on each. A node of `nodes` is killed, stopped,
    paused and started by its own methods.
    """

    def __init__(self, folder: Path, *, size: int = 3) -> None:
        self.nodes: list[RabbitMQNode] = []
        for number in range(1, size + 1):
            self.nodes.append(RabbitMQNode(folder / f"node{number}", members=self.nodes))

    @property
    def url(self) -> str:
        """The URLs of all nodes, by comma, as BUS_AMQP_URL takes them."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start what does not run, and return when all are in the cluster.

        Raises `ServiceUnavailable` or `CommandFailed` where that takes too long.
        """
        self.nodes[0].found()
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(RabbitMQNode.start, self.nodes))
        self.await_whole()

    def close(self, *, remove: bool = False) -> None:
        """End all nodes for good; the first last, for it keeps what the others are found by."""
        for node in reversed(self.nodes):
            node.close(remove=remove)

    def leader_of(self, queue: str) -> RabbitMQNode:
        """The node that leads a quorum queue. Raises `CommandFailed` while none does."""
        leader = self._queue(queue)["leader"]
        for node in self.nodes:
            if node.running and node.name == leader:
                return node
        raise CommandFailed(f"queue {queue} has no leader just now (RabbitMQ says: {leader!r})")

    def followers_of(self, queue: str) -> list[RabbitMQNode]:
        leader = self.leader_of(queue)
        return [node for node in self.nodes if node is not leader]

    def await_whole(self) -> None:
        """Return when all nodes are in the cluster. Raises `CommandFailed` in the end."""
        seconds = f"{REJOIN_SECONDS:.0f}"
        command = ("await_online_nodes", str(len(self.nodes)), "--timeout", seconds)
        self._any_running().control(*command)

    def await_online(self, queue: str) -> None:
        """Return when every node's member of a queue takes part again."""
        deadline = time.monotonic() + REJOIN_SECONDS
        while len(online := self._queue(queue)["online"]) < len(self.nodes):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"queue {queue} is online on {online} only")
            time.sleep(0.2)

    def end(self) -> None:
        self.close(remove=True)

    # --- within ------------------------------------------------------------------------------

    def _queue(self, name: str) -> dict[str, Any]:
        node = self._any_running()
        rows = json.loads(
            node.control("list_queues", "name", "leader", "online", "--formatter", "json")
        )
        for row in rows:
            if row["name"] == name:
                found: dict[str, Any] = row
                return found
        raise CommandFailed(f"there is no queue {name}; there are {[row['name'] for row in rows]}")

    def _any_running(self) -> RabbitMQNode:
        for node in self.nodes:
            if node.running:
                return node
        raise ServiceUnavailable("no node of the RabbitMQ cluster runs: call start() first")
