"""Requests waiting for their replies. Knows no broker."""

import asyncio

from bus.transports.base import Frame, unanswered


class PendingReplies:
    """The requests of one connection that are still unanswered, each under its ticket."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Frame | None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, ticket: str) -> "asyncio.Future[Frame | None]":
        """Returns a future that `arrived` or `lost` settles; forgotten once done or cancelled."""
        reply: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = reply
        reply.add_done_callback(lambda _: self._waiting.pop(ticket, None))
        return reply

    def arrived(self, ticket: str, frame: Frame) -> None:
        """Answers a request. A late or unexpected reply is dropped."""
        reply = self._waiting.get(ticket)
        if reply is not None and not reply.done():
            reply.set_result(frame)

    def lost(self) -> None:
        """Ends all waiting with None, because the connection is gone."""
        for reply in list(self._waiting.values()):
            if not reply.done():
                reply.set_result(None)


async def answer(
    request: Frame, reply: "asyncio.Future[Frame | None]", deadline: float, timeout: float
) -> Frame:
    """Waits for a reply until `deadline` (loop time) and returns it. Raises: OutcomeUnknown."""
    try:
        async with asyncio.timeout_at(deadline):
            frame = await reply
    except TimeoutError:
        raise unanswered(request, f"no answer within {timeout:g} s") from None
    if frame is None:
        raise unanswered(request, "the connection was lost before the answer came")
    return frame
