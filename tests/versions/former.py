"""The version before: its reference service, its README's, its tests, as they were, in `before`.

They run in processes of their own, where `handlers`, `tests` and so on are theirs and `bus` is the
present one.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).parent / "before"
PYTHONPATH = os.pathsep.join([str(BEFORE), str(ROOT)])

OPTIONS = [
    *("-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
    *("-W", "error", "-W", "default::DeprecationWarning"),
    *("-W", "ignore:unclosed <socket:ResourceWarning"),
]
WARNED = re.compile(r"DeprecationWarning: (.+)")


async def passed(folder: Path, *files: str, deselect: str = "") -> set[str]:
    """Runs tests of `folder`; returns what they were warned of.

    Raises: AssertionError with what pytest printed, where one does not pass.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        *OPTIONS,
        "-W",
        "ignore:unclosed <socket:ResourceWarning",
    ]
    command += [
        f"--rootdir={folder}",
        f"--confcutdir={folder}",
        "-k",
        f"not ({deselect or 'nothing'})",
    ]
    running = await asyncio.create_subprocess_exec(
        *command,
        *files,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await running.communicate())[0].decode()
    assert running.returncode == 0, printed
    return {one.strip() for one in WARNED.findall(printed)}
