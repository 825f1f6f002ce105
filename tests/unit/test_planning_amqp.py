"""What AMQP alone tells, to a user whose rights end somewhere."""

from typing import Any

from aiormq.exceptions import ChannelAccessRefused

from bus.transports.rabbitmq.planning.amqp import look
from bus.transports.rabbitmq.planning.diff import changes
from bus.transports.rabbitmq.planning.wanted import MOVING, wanted_queues
from bus.transports.topology import Topology, handler_queue
from tests.unit.faking_broker import FakeBroker, FakeQueue

TOPOLOGY = Topology("bank", (handler_queue("bank", "mail", ["Paid"]),))


class Limited(FakeBroker):
    """Refuses to say whether there are queues that the user has no rights on, as from 4.3 on."""

    async def queue_declare(self, name: str, **options: Any) -> Any:
        if name.endswith(MOVING):
            raise ChannelAccessRefused(name)
        return await super().queue_declare(name, **options)

    async def exchange_declare(self, name: str, **options: Any) -> None: ...


async def test_a_queue_aside_that_may_not_be_looked_at_is_not_taken_for_a_move() -> None:
    queues = {queue.name: FakeQueue() for queue in wanted_queues(TOPOLOGY)}
    session: Any = Limited(**queues)
    found = await look(session, TOPOLOGY, compares=True, noted={})
    assert [change for change in changes(TOPOLOGY, found) if change.sign != "?"] == []
