"""What apply refuses, because making it anew would lose something or hide something."""

from typing import Any

import pytest

from bus import Bus, ConfigurationError, Settings, TopologyMismatch
from bus.operate.topology.apply import _make, _require_no_stream
from bus.transports.rabbitmq.declaring import QueuesDiffer
from bus.transports.rabbitmq.planning.found import Found, FoundQueue


@pytest.mark.parametrize(
    ("mismatch", "stops"),
    [
        (QueuesDiffer({"bank.mail": "classic"}), False),
        (QueuesDiffer({"bank.mail": "classic", "bank.other": "it is not moved"}), True),
        (TopologyMismatch("exchange shop.events: it is not moved"), True),
    ],
)
async def test_only_what_is_moved_next_may_differ(
    mismatch: TopologyMismatch, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def declare(topology: Any) -> None:
        raise mismatch

    async with Bus("bank", settings=Settings.in_memory()) as bus:
        monkeypatch.setattr(bus.runtime.transport, "declare", declare)
        if not stops:
            await _make(bus.runtime, {"bank.mail"})
            return
        with pytest.raises(TopologyMismatch, match="it is not moved"):
            await _make(bus.runtime, {"bank.mail"})


@pytest.mark.parametrize(
    "queue",
    [
        FoundQueue("bank.mail", arguments={"x-queue-type": "stream"}),
        FoundQueue("bank.mail", refusal="received 'quorum' but current is 'stream'"),
    ],
)
def test_a_stream_is_not_moved_because_reading_it_takes_nothing_out(queue: FoundQueue) -> None:
    with pytest.raises(ConfigurationError, match=r"bank.mail is a stream.*delete_queue"):
        _require_no_stream("bank.mail", Found("a test", {"bank.mail": queue}, {}))
