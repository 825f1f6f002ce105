"""Worker processes, of the wallets by default: started, signalled and ended by their own pids."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from bus import Settings
from tests.waiting import until

ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """`python -m bus worker`, with its log in a file."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        log: Path,
        *options: str,
        target: str = "tests.end_to_end.wallet_service:build",
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._target = target
        self._options = options
        self._log = log
        self._environment = {
            **os.environ,
            "BUS_AMQP_URL": settings.amqp_url,
            "BUS_MONGO_URL": settings.mongo_url,
            "BUS_MONGO_DB": settings.mongo_db,
            "BUS_STOP_WITHIN": "10",
            "BUS_HEARTBEAT": "2",
            "WALLET_SERVICE": service,
            **(names or {}),
            "PYTHONPATH": str(ROOT),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running.returncode is None:
            self.kill()
        await self._running.wait()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bus", "worker", self._target,
                *self._options, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def ready(self) -> None:
        await until(lambda: "worker started" in self.log(), "the worker to start", within=30)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def kill(self) -> None:
        self._running.kill()

    async def ended(self, within: float) -> int:
        async with asyncio.timeout(within):
            return await self._running.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process
        return self._process
