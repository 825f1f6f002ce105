"""Processes of a service: started, signalled and ended by their own pids."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from bus import Settings
from tests.waiting import patience, until
from tools.services.ports import LOOPBACK, free_ports

ROOT = Path(__file__).parents[2]


class ServiceProcess:
    """A program of a service's, with its log in a file. `started` is what it logs when it works."""

    started: str
    output: Path | None = None
    """Where its standard output goes; by default into the log."""

    def __init__(self, settings: Settings, log: Path, *command: str, **environment: str) -> None:
        self._command = command
        self._log = log
        self._environment = {
            **os.environ,
            "BUS_AMQP_URL": settings.amqp_url,
            "BUS_MONGO_URL": settings.mongo_url,
            "BUS_MONGO_DB": settings.mongo_db,
            "BUS_STOP_WITHIN": "10",
            "BUS_HEARTBEAT": "2",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.runs:
            self.kill()
        await self._running.wait()

    async def start(self) -> None:
        with self._log.open("ab") as log, (self.output or self._log).open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=output, stderr=log
            )

    async def ready(self) -> None:
        await until(lambda: self.started in self.log(), "it starts", within=30)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        self._running.send_signal(number)

    def terminate(self) -> None:
        self._running.terminate()

    def kill(self) -> None:
        self._running.kill()

    async def ended(self, within: float) -> int:
        async with asyncio.timeout(within * patience()):
            return await self._running.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process
        return self._process


class WorkerProcess(ServiceProcess):
    """`python -m bus worker`, of the wallets or of another service."""

    started = "worker_started"

    def __init__(
        self,
        settings: Settings,
        service: str,
        log: Path,
        *options: str,
        target: str = "tests.end_to_end.wallet_service:build",
        names: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "bus", "worker", target, *options]
        named = {"WALLET_SERVICE": service, "JOBBOARD_SERVICE": service, **(names or {})}
        super().__init__(settings, log, *command, **named)


class ApiProcess(ServiceProcess):
    """`bin/api`, the job board over HTTP."""

    started = "Uvicorn running"

    def __init__(self, settings: Settings, service: str, log: Path, *options: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{port}"
        command = [str(ROOT / "bin" / "api"), "--port", str(port), *options]
        super().__init__(settings, log, *command, JOBBOARD_SERVICE=service)
