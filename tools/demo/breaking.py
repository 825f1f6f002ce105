"""Breaking: what a run kills and cuts while its load goes on, all at once."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tools.demo.processes import STATISTICS, WORKER, Processes
from tools.demo.stores import Stores
from tools.services.node import Node

AWAY = 1.0
"""Seconds for which servers that were killed are away at least."""


class Breaking:
    """Kills processes with SIGKILL, and brings them back: a worker, that of the third service, and
    those servers of other stores that the demo has started itself."""

    def __init__(self, processes: Processes, stores: Stores, say: Callable[[str], None]) -> None:
        self._processes = processes
        self._stores = stores
        self._say = say
        self.broken: list[str] = []
        """What was killed or cut, in words."""

    def run(self) -> None:
        """Returns once all is back. Raises: ServiceUnavailable, if a server does not come back."""
        self._kill_processes()
        self._break_stores()

    def _kill_processes(self) -> None:
        killed = [name for name in (WORKER, STATISTICS) if self._processes.runs(name)]
        for name in killed:
            self._processes.kill(name)
        if WORKER in killed:
            self._say("Killed a worker with SIGKILL, and started it again.")
        if STATISTICS in killed:
            self._say("Killed the worker of the third service, and started it again.")
            self.broken.append("the third service's worker killed")

    def _break_stores(self) -> None:
        for label in self._stores.cut():
            self._say(f"Cut all connections to {label}.")
            self.broken.append(f"connections to {label} cut")
        if nodes := self._stores.nodes:
            self._kill_nodes(nodes)

    def _kill_nodes(self, nodes: Mapping[str, Node]) -> None:
        for node in nodes.values():
            node.kill()
        self._say(f"Killed {', '.join(nodes)} with SIGKILL; the load goes on.")
        time.sleep(AWAY)
        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(lambda node: node.start(), nodes.values()))
        self.broken += [f"{label} killed" for label in nodes]
