"""Messages that no transport of ours would carry, put into the exchange by somebody else."""

import aio_pika

from bus import Bus, DeadLetters, Settings, Worker
from bus.transports.base import MAX_BODY, Frame
from tests.service.delivery_contract import stray
from tests.service.wallet import Diary, Pay, build
from tests.waiting import until

FOREIGN = [
    stray(b"x" * 16 * 1024 * 1024, stream="wallet-large"),  # the most that RabbitMQ 4 takes
    stray(b"{}", stream="wallet-long")._replace(correlation_id="c" * 250),
    stray(b'{"amount":1}', stream="wallet-ref", **{"$ref": "a", "$id": "b"}),
    stray(b"{}", stream="wallet-nul", **{"a\0b": "c", "$where": "d"}),
    stray(b"{}", stream="wallet-number", number=2**40),
]


async def put(bus: Bus, frames: list[Frame]) -> None:
    connection = await aio_pika.connect(bus.runtime.settings.amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(f"{bus.service}.events")
        for frame in frames:
            message = aio_pika.Message(
                frame.body,
                headers=dict(frame.headers),
                type=frame.name,
                message_id=frame.id,
                correlation_id=frame.correlation_id,
            )
            await exchange.publish(message, frame.topic)


async def test_foreign_messages_are_kept_and_listed_and_stop_nobody(
    real_settings: Settings, unique: str
) -> None:
    diary = Diary()
    async with build(real_settings, diary, unique) as bus, Worker(bus):
        await put(bus, FOREIGN)
        await bus.execute(Pay(wallet_id="good", amount=1))
        await until(lambda: ("wallet-good", 1) in diary.seen, "the good one is handled")
        letters = DeadLetters(bus)

        async def all_kept() -> bool:
            listed = [one for one in await letters.list() if one.kind == "message"]
            return len(listed) >= 2 * len(FOREIGN)

        await until(all_kept, "each is kept, by the projection and by the handler")
        kept = [one for one in await letters.list() if one.kind == "message"]
        assert len(kept) == 2 * len(FOREIGN)
        large = next(one for one in kept if one.stream == "wallet-large")
        assert len(large.body) == MAX_BODY + 1
        assert "over" in (await letters.retry(large.id)).failed[large.id]
