"""The shop as people run it: its API, and a worker for each service, as processes.

With `watched`, they are started by `opentelemetry-instrument`, as an operator would, and write what
spans they have into a file each.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bus import Settings
from tests.databases import drop
from tests.end_to_end.processes import ServiceProcess
from tests.shop.shipping import SIGN
from tests.waiting import until
from tools.services.ports import LOOPBACK, free_ports

API = "api"
SERVICES = ("orders", "payments", "shipping")
PROCESSES = (API, *SERVICES)
INSTRUMENT = str(Path(sys.executable).parent / "opentelemetry-instrument")
WATCHED = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
}


class Shop:
    """All processes of a shop, and what people do there."""

    def __init__(
        self,
        amqp_url: str,
        mongo_url: str,
        name: str,
        folder: Path,
        *,
        watched: bool = False,
        **environment: str,
    ) -> None:
        self.name = name
        self.folder = folder
        self.no_courier = folder / "no-courier"
        self._servers = {"amqp_url": amqp_url, "mongo_url": mongo_url}
        self._prefix = [INSTRUMENT] if watched else []
        self._more = {
            "SHOP": name,
            SIGN: str(self.no_courier),
            "BUS_LOG_LEVEL": "DEBUG",
            **(WATCHED if watched else {}),
            **environment,
        }
        self.urls = {
            process: f"http://{LOOPBACK}:{port}"
            for process, port in zip(PROCESSES, free_ports(len(PROCESSES)), strict=True)
        }
        self.processes = {API: self._api(), **{name: self._worker(name) for name in SERVICES}}
        # A connection for each request: the server closes those that are idle, at any moment.
        once = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.AsyncClient(timeout=30, trust_env=False, limits=once)

    async def place(self, *, card: str = "gold") -> str:
        """Places an order, and returns its id."""
        body = {"article": "a chair", "amount": 40, "card": card}
        answer = await self.http.post(f"{self.urls[API]}/orders", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["order_id"])

    async def cancel(self, order_id: str) -> None:
        answer = await self.http.delete(f"{self.urls[API]}/orders/{order_id}")
        assert answer.status_code == 204, answer.text

    async def shown(self, order_id: str) -> dict[str, Any]:
        """What the board says of an order; empty before it says anything."""
        answer = await self.http.get(f"{self.urls[API]}/orders/{order_id}")
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found

    async def until_shown(self, order_id: str, **wanted: Any) -> None:
        """Waits until the board says this of an order."""

        async def is_shown() -> bool:
            return wanted.items() <= (await self.shown(order_id)).items()

        await until(is_shown, f"the board shows {wanted} of order {order_id}", within=60)

    async def start(self) -> None:
        """Starts all, and waits until they are ready and the board is built, so that it answers.

        Those who own what the board follows come first: an owner that is not there yet is asked
        again only after a while.
        """
        await self._start("payments", "shipping")
        await self._start("orders")
        board = self.processes["orders"]
        await until(lambda: "readers_moved" in board.log(), "the board is built", within=60)
        await self._start(API)

    async def _start(self, *names: str) -> None:
        for name in names:
            await self.processes[name].start()
        for name in names:
            page, status = ("/orders/none", 404) if name == API else ("/readyz", 200)
            is_ready = partial(self._says, f"{self.urls[name]}{page}", status)
            await until(is_ready, f"{name} is ready", within=60)

    async def stop(self) -> None:
        """Ends all of them as an operator does: what they still have to say is written by then."""
        running = [one for one in self.processes.values() if one.runs]
        for process in running:
            process.terminate()
        try:
            for process in running:
                await process.ended(within=30)
        finally:
            for process in [one for one in running if one.runs]:
                process.kill()

    async def _says(self, page: str, status: int) -> bool:
        try:
            return (await self.http.get(page)).status_code == status
        except httpx.TransportError:
            return False

    def _api(self) -> ServiceProcess:
        port = self.urls[API].rpartition(":")[2]
        return self._process(API, "orders", ["tests.shop.http", "--port", port])

    def _worker(self, service: str) -> ServiceProcess:
        port = self.urls[service].rpartition(":")[2]
        module = ["bus", "worker", f"tests.shop.{service}:build"]
        return self._process(service, service, module, BUS_HEALTH_PORT=port)

    def _process(
        self, name: str, service: str, module: list[str], **environment: str
    ) -> ServiceProcess:
        """Returns a process of a service, not started yet; lines and spans go to a file each."""
        process = ServiceProcess(
            Settings(**self._servers, mongo_db=f"{self.name}_{service}"),
            self.folder / f"{name}.log",
            *self._prefix,
            sys.executable,
            "-m",
            *module,
            **self._more,
            **environment,
        )
        process.output = self.folder / f"{name}.spans"
        return process


@asynccontextmanager
async def running(
    amqp_url: str,
    mongo_url: str,
    name: str,
    folder: Path,
    *,
    watched: bool = False,
    **environment: str,
) -> AsyncIterator[Shop]:
    """A shop that is open; what it stored goes with it."""
    shop = Shop(amqp_url, mongo_url, name, folder, watched=watched, **environment)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drop, mongo_url, *(f"{name}_{service}" for service in SERVICES))
        await stack.enter_async_context(shop.http)
        stack.push_async_callback(shop.stop)
        await shop.start()
        yield shop
