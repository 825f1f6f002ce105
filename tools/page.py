"""Takes a picture of the job board's page, with jobs on it, in a headless Chromium."""

import argparse
import asyncio
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tools.browser import Browser
from tools.services import services
from tools.services.errors import ServiceUnavailable
from tools.services.ports import LOOPBACK, free_ports
from tools.services.process import ServerProcess

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "job_board.png"
START_SECONDS = 30.0
JOBS = {
    "Track inspector": (
        "Walks the branch line before the first train and after the last one. Knows a loose "
        "fishplate by its sound; the rest can be learnt here.",
        1,
    ),
    "Cook for the early shift": (
        "Breakfast for forty between four and seven.\n"
        "The kitchen is small, the coffee is good, and everybody who eats here is on time.",
        4,
    ),
    "Signaller, northern line": (
        "Four nights a week in the box at the junction. The levers are from 1911 and heavier than "
        "they look; the interlocking is younger, and forgives nobody.",
        12,
    ),
    "Conductor": ("Sells tickets upstairs and down, and knows all the stops by heart.", 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/page", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE)
    parser.add_argument("--dark", action="store_true", help="as who prefers dark colours sees it")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1100)
    chosen = parser.parse_args()
    try:
        with services(need=("rabbitmq", "mongodb")) as found:
            chosen.file.write_bytes(asyncio.run(_picture(found.environment, chosen)))
    except ServiceUnavailable as error:
        sys.exit(f"bin/page: {error}")
    print(chosen.file)


async def _picture(environment: dict[str, str], chosen: argparse.Namespace) -> bytes:
    flags = ("--hide-scrollbars", *(["--force-dark-mode"] if chosen.dark else []))
    browser = Browser(width=chosen.width, height=chosen.height, flags=flags)
    async with _api(environment) as api, browser:
        for title, (description, applications) in JOBS.items():
            await _post(api, title, description, applications)
        await browser.open(str(api.base_url))
        await _shown(browser)
        return await browser.picture()


async def _post(api: httpx.AsyncClient, title: str, description: str, applications: int) -> None:
    answer = await api.post("/api/v1/jobs", json={"title": title, "description": description})
    receipt = {"Bus-Receipt": answer.headers["Bus-Receipt"]}
    for number in range(applications):
        letter = {"job_id": answer.json()["id"], "applicant": f"Ada {number}", "letter": "Hello."}
        applied = await api.post("/api/v1/applications", json=letter, headers=receipt)
        receipt = {"Bus-Receipt": applied.headers["Bus-Receipt"]}
    (await api.get("/api/v1/jobs", headers=receipt)).raise_for_status()


async def _shown(browser: Browser) -> None:
    count = "return document.querySelectorAll('#jobs li').length"

    async def all_are() -> bool:
        return bool(await browser.run(count) == len(JOBS))

    await _until(all_are)


@asynccontextmanager
async def _api(environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The API with its worker, on a database of its own."""
    (port,) = free_ports(1)
    service = f"page{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        process = ServerProcess.start(
            [sys.executable, "-m", "handlers.http", "--port", str(port), "--with-worker"],
            environment={**os.environ, **environment, "JOBBOARD_SERVICE": service},
            log=Path(folder) / "api.log",
            detached=False,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as api:
                await _ready(api)
                yield api
        finally:
            await asyncio.to_thread(process.stop, START_SECONDS)


async def _ready(api: httpx.AsyncClient) -> None:
    async def is_ready() -> bool:
        try:
            return (await api.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    await _until(is_ready)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
