"""Dead letters: messages given up, kept with their error until someone acts."""

import traceback
import zlib
from pathlib import PurePath

import structlog

from bus import ambient
from bus.stores.base import ReadStore
from bus.transports.base import Delivery

log = structlog.get_logger("bus.deadletters")


async def bury(
    store: ReadStore, delivery: Delivery, error: BaseException, *, handler: str, attempts: int
) -> None:
    """Keeps a message that is given up. Raises: StoreUnavailable, OutcomeUnknown."""
    frame = delivery.frame
    await store.add_dead_letter(
        {
            "_id": f"{delivery.queue}/{frame.id}/{zlib.crc32(frame.body):08x}",
            "queue": delivery.queue,
            "handler": handler,
            "message": frame.name,
            "message_id": frame.id,
            "correlation_id": frame.correlation_id,
            "headers": dict(frame.headers),
            "body": frame.body,
            "error": type(error).__name__,
            "reason": str(error)[:2000],
            "frames": innermost_frames(error),
            "attempts": attempts,
            "time": ambient.now(),
        }
    )
    log.error(
        "dead letter",
        queue=delivery.queue,
        message=frame.name,
        message_id=frame.id,
        error=type(error).__name__,
        reason=str(error)[:500],
        attempts=attempts,
    )


def innermost_frames(error: BaseException, count: int = 3) -> list[str]:
    """The places where it was raised, innermost last, without line contents."""
    frames = traceback.extract_tb(error.__traceback__)[-count:]
    return [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
