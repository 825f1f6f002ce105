import asyncio

import pytest

from bus.common.clock import now
from bus.delivery.replies import BUS_ERROR, OTHER_ERROR, receipt_in
from bus.errors import ConcurrencyError, OutcomeUnknown, RemoteError
from bus.transports.base import Frame
from bus.transports.replies import PendingReplies, answer

NOW = now()


def frame(name: str = "receipt", body: bytes = b"{}") -> Frame:
    return Frame("reply", "", "c1", name, body, NOW, "1")


async def test_nothing_is_left_of_a_request_however_it_ends() -> None:
    replies = PendingReplies()
    loop = asyncio.get_running_loop()

    replies.arrived("nobody waits", frame())
    in_time, late, lost, cancelled = (replies.expect(ticket) for ticket in "1234")
    replies.arrived("1", frame())
    assert await answer(frame(), in_time, loop.time() + 1, 1) == frame()
    with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.1 s"):
        await answer(frame(), late, loop.time(), 0.1)
    cancelled.cancel()
    replies.arrived("4", frame())
    replies.lost()
    with pytest.raises(OutcomeUnknown, match="connection was lost"):
        await answer(frame(), lost, loop.time() + 1, 1)
    await asyncio.sleep(0)
    assert len(replies) == 0


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        (BUS_ERROR, "ConcurrencyError", ConcurrencyError),
        (BUS_ERROR, "OfANewerVersion", RemoteError),
        (BUS_ERROR, "getattr", RemoteError),
        (OTHER_ERROR, "ConcurrencyError", RemoteError),
    ],
)
def test_an_error_comes_back_as_itself_only_where_it_is_the_buss_own(
    name: str, error: str, expected: type[Exception]
) -> None:
    with pytest.raises(expected, match="why") as raised:
        receipt_in(frame(name, b'{"error":"%s","reason":"why"}' % error.encode()))
    assert type(raised.value) is expected


def test_a_remote_error_names_the_command_and_its_id() -> None:
    body = b'{"error":"ValueError","reason":"no room"}'
    with pytest.raises(RemoteError, match=r"Book c1: its handler raised ValueError: no room"):
        receipt_in(frame(OTHER_ERROR, body), "Book")
