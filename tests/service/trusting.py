"""What a service of the release before answers to who follows it: it knows of no tokens."""

import json
from collections.abc import Sequence

from bus import Bus
from bus.failures.give_up import GiveUp
from bus.following.protocol import Word, answer_frame
from bus.following.sender import ReplayConsumer
from bus.transports.base import Frame, Transport


class WithoutTokens:
    """A transport for what `ReplayConsumer` needs of one; it takes the tokens off the words."""

    def __init__(self, transport: Transport) -> None:
        self.inbox = transport.inbox
        self._transport = transport

    async def publish(
        self, frames: Sequence[Frame], *, must_route: bool = False
    ) -> dict[str, Exception]:
        former = [_without_token(frame) for frame in frames]
        return await self._transport.publish(former, must_route=must_route)


def _without_token(frame: Frame) -> Frame:
    if not frame.name.startswith("history."):
        return frame
    word = json.loads(frame.body)
    del word["token"]
    return frame._replace(body=json.dumps(word).encode())


def former_owner(bus: Bus) -> ReplayConsumer:
    """Answers for a bus as that release does."""
    runtime, transport = bus.runtime, WithoutTokens(bus.runtime.transport)
    return ReplayConsumer(
        runtime.service,
        runtime.event_log,
        transport,  # type: ignore[arg-type]
        runtime.control,
        GiveUp(runtime),
    )


async def forge(bus: Bus, service: str, word: Word) -> None:
    """Publishes a word to a follower, as anybody might who may."""
    frame = answer_frame(service, word)
    assert not await bus.runtime.transport.publish([frame], must_route=True)
