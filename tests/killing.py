"""Programs that kill themselves at a named moment, and the test that waits for it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.waiting import patience

ROOT = Path(__file__).parents[1]


async def killed(
    program: str, *words: str, environment: Mapping[str, str], within: float = 45
) -> None:
    """Runs a module of tests.fault until it kills itself, which takes `within` seconds at most."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.fault.{program}", *words),
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    try:
        async with asyncio.timeout(within * patience()):
            assert await process.wait() == -signal.SIGKILL, words
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lethal(call: Any, what: str, *, when: str, time: int, end: Callable[[], object] = die) -> Any:
    """Returns the call, which is the last one that many times on, if `when` is "before" or "after"
    what it is; or whatever `end` does happens then."""
    count = 0

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        own = count  # another one may come meanwhile
        if own == time and f"before {what}" == when:
            end()
        result = await call(*given, **named)
        if own == time and f"after {what}" == when:
            end()
        return result

    return counted
