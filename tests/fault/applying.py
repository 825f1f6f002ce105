"""`bus topology apply` as a process that is killed at its steps, while events come in."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bus import Bus, Settings
from bus.common.tasks import end
from tests import killing
from tests.service.wallet import Pay
from tests.waiting import patience, until

MANY = 30
"""As many messages are on their way at least whenever it is run."""

Step = tuple[str, int]
"""A call to the broker, and which one of its kind."""


class Applies:
    """The command, for a service with these names of routers, as in `echoes=answers`; `renames` are
    the arguments of `--rename`."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        release: Sequence[str] = (),
        renames: Sequence[str] = (),
    ) -> None:
        self._renames = renames
        self._environment = {
            **os.environ,
            "BUS_AMQP_URL": settings.amqp_url,
            "BUS_MONGO_URL": settings.mongo_url,
            "BUS_MONGO_DB": settings.mongo_db,
            "TEST_APPLIED": " ".join([service, *release]),
            "PYTHONPATH": str(killing.ROOT),
        }

    async def steps(self, *queues: str) -> list[Step]:
        """Runs it to its end; returns the steps in which it has to do with these queues."""
        status, lines = await self._run(("", 0))
        assert status == 0, lines
        steps = [line for line in dict.fromkeys(lines) if line.split()[-1] in queues]
        late = [(step, MANY // 2) for step in steps if step.startswith("basic_publish")]
        return [*((step, 1) for step in steps), *late, ("basic_ack", 1), ("basic_ack", 2)]

    async def killed(self, step: Step) -> None:
        """Runs it until it is killed before that step."""
        status, lines = await self._run(step)
        assert status == -signal.SIGKILL, (step, lines)

    async def _run(self, last: Step) -> tuple[int | None, list[str]]:
        """Returns the status, and the steps that it came to."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fault.killed_in_apply"),
            *(last[0], str(last[1]), *self._renames),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60 * patience()):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        lines = said.decode().splitlines()
        return process.returncode, [line for line in lines if line.startswith(("queue_", "basic_"))]


class Publisher:
    """Pays into one wallet after another, while it is let. `paid` counts the wallets."""

    def __init__(self, api: Bus, paid: int = 0) -> None:
        self._api = api
        self._may = asyncio.Event()
        self._rests = asyncio.Event()
        self.paid = paid

    async def run(self) -> None:
        while True:
            self._rests.set()
            await self._may.wait()
            self._rests.clear()
            await self._api.execute(Pay(wallet_id=f"w{self.paid}", amount=1))
            self.paid += 1
            await asyncio.sleep(0.02)

    async def go_on(self, least: int) -> None:
        """Lets it, and waits until it has paid so often."""
        self._may.set()
        most = self.paid + least
        await until(lambda: self.paid >= most, "it pays")

    async def rest(self) -> None:
        self._may.clear()
        await self._rests.wait()


@asynccontextmanager
async def publishing(api: Bus, paid: int = 0) -> AsyncIterator[Publisher]:
    publisher = Publisher(api, paid)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        await end([running])
