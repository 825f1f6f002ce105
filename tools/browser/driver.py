"""Drives a headless Chromium through its driver, by the W3C's WebDriver protocol."""

import asyncio
import base64
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tools.services.errors import ServiceUnavailable
from tools.services.packages import programs
from tools.services.ports import LOOPBACK, free_ports
from tools.services.process import ServerProcess

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class Browser:
    """One window of a browser with an empty profile; both end with it."""

    def __init__(
        self, *, width: int = 1200, height: int = 900, flags: tuple[str, ...] = ()
    ) -> None:
        self._flags = [*FLAGS, f"--window-size={width},{height}", *flags]
        self._folder = Path()
        self._driver: ServerProcess | None = None
        self._client = httpx.AsyncClient(timeout=START_SECONDS)
        self._session = ""

    async def open(self, url: str) -> None:
        """Goes to a page; returns when it is loaded."""
        await self._ask("POST", "/url", url=url)

    async def run(self, script: str, *arguments: object) -> Any:
        """What the body of a function returns in the page; it has the arguments as `arguments`."""
        return await self._ask("POST", "/execute/sync", script=script, args=arguments)

    async def picture(self) -> bytes:
        """The window as a PNG file's content."""
        return base64.b64decode(await self._ask("GET", "/screenshot"))

    async def __aenter__(self) -> Self:
        chromium, driver = await asyncio.to_thread(
            programs, "chromium", "chromedriver", packages=["chromium", "chromium-driver"]
        )
        self._folder = Path(tempfile.mkdtemp(prefix="browser-"))
        try:
            await self._start(chromium, driver)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _start(self, chromium: str, driver: str) -> None:
        (port,) = free_ports(1)
        self._client.base_url = httpx.URL(f"http://{LOOPBACK}:{port}")
        self._driver = ServerProcess.start(
            [driver, f"--port={port}"],
            environment=os.environ,
            log=self._folder / "driver.log",
            detached=False,
        )
        await self._ready()
        arguments = [*self._flags, f"--user-data-dir={self._folder / 'profile'}"]
        options = {"binary": chromium, "args": arguments}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        answer = await self._send("POST", "/session", {"capabilities": wanted})
        self._session = f"/session/{answer['sessionId']}"

    async def _ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if (await self._send("GET", "/status"))["ready"]:
                    return
            except httpx.TransportError:
                """It does not listen yet."""
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"chromedriver did not start in {START_SECONDS:.0f} s")
            await asyncio.sleep(0.05)

    async def _stop(self) -> None:
        try:
            if self._session:
                await self._ask("DELETE", "")
        finally:
            await self._client.aclose()
            if self._driver is not None:
                await asyncio.to_thread(self._driver.stop, STOP_SECONDS)
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ask(self, method: str, path: str, **body: Any) -> Any:
        return await self._send(method, f"{self._session}{path}", body)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Raises `ServiceUnavailable` with the driver's word where it refuses."""
        answer = await self._client.request(method, path, json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.is_error:
            raise ServiceUnavailable(f"the browser: {value['error']}: {value['message']:.1000}")
        return value
