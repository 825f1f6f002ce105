"""Forks: children share no id, and nothing that their parent opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IDS = """
import multiprocessing, os
from bus import ambient

def draw(_=None):
    return [ambient.new_id() for _ in range(500)] + [str(ambient.jittered(1.0))]

def by_fork():
    reads, writes = os.pipe()
    if not os.fork():
        os.write(writes, "\\n".join(draw()).encode())
        os._exit(0)
    os.close(writes)
    with open(reads) as told:
        return told.read().splitlines()

ambient.source.seconds = lambda: 1_767_225_600.0
with multiprocessing.get_context("fork").Pool(3) as pool:
    drawn = [*pool.map(draw, range(3), chunksize=1), by_fork(), by_fork(), draw()]
ids = [id for one in drawn for id in one]
print(len(ids), len(set(ids)))
"""

OPEN = """
import asyncio, os, sys
from bus import Bus, Command, ConfigurationError, Router, Settings, Worker

class Note(Command):
    text: str

notes = Router("notes")

@notes.command
async def note(command: Note) -> str:
    return command.text

bus = Bus("notes", routers=[notes], settings=Settings.in_memory())

async def refused():
    health = await bus.health()
    assert not health.alive and "before this process was forked" in health.problems[0].what
    for attempt in (
        lambda: bus.execute(Note(text="child")),
        lambda: bus.send(Note(text="child")),
        lambda: Worker(bus).__aenter__(),
    ):
        try:
            await attempt()
        except ConfigurationError as error:
            assert "open a bus of its own in each process" in str(error), error
        else:
            raise AssertionError("it was not refused")
    await bus.__aexit__(None, None, None)

def child():
    if not (pid := os.fork()):
        try:
            asyncio.run(refused())
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def main():
    async with bus, Worker(bus):
        print("child", child())
        receipt = await bus.execute(Note(text="parent"))
        print(receipt.result, (await bus.health()).ready)

async def anew():
    async with bus:
        print((await bus.execute(Note(text="anew"))).result)

asyncio.run(main())
sys.stdout.flush()  # or the child has what was printed, and prints it too
if not os.fork():
    asyncio.run(anew())
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


def ran(program: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nobody can fork here")


@needs_fork
def test_children_of_a_process_draw_ids_of_their_own() -> None:
    assert ran(IDS) == ["3006 3006"]


@needs_fork
def test_a_bus_that_was_open_before_the_fork_is_refused_in_the_child_and_serves_its_parent() -> (
    None
):
    assert ran(OPEN) == ["child 0", "parent True", "anew"]
