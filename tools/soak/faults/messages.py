"""What comes over the wire that ought not to: messages nobody can read, and messages once more."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import aio_pika
from aio_pika.abc import AbstractChannel

from tools.soak.plan import SERVICE
from tools.soak.scene import Scene

POISON = "poison-"
BODIES = (b"{not json", b"\xff\xfe\x00", b"[]", b'{"job_id": 5}', b"", b"[" * 100_000)
RECENT, AGAIN = 500, 200


async def poison(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Messages that are no events, among those that are."""
    bodies = [draw.choice(BODIES) for _ in range(draw.randint(1, 10))]

    async def publish(channel: AbstractChannel) -> None:
        exchange = await channel.get_exchange(f"{SERVICE}.events", ensure=False)
        for body in bodies:
            scene.poisoned += 1
            job = draw.randrange(1000)
            message = aio_pika.Message(
                body,
                message_id=f"{POISON}{scene.poisoned}#1",
                type="JobRevised",
                content_type="application/json",
                headers={"stream": f"job-j{job}", "version": draw.randint(1, 20), "schema": 1},
            )
            await exchange.publish(message, routing_key=f"job.JobRevised.{draw.randrange(64)}")

    await scene.at_broker(publish)
    yield


async def duplicate(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Commits that were published are published once more, as after a crash before the mark."""
    number = draw.randrange(RECENT)
    await asyncio.to_thread(_publish_again, scene, number)
    yield


def _publish_again(scene: Scene, skip: int) -> None:
    for category in ("job", "application"):
        scene.log.publish_again(category, skip=skip, count=AGAIN)
