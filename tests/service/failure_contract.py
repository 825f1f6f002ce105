"""What a worker does about handlers that fail, on any pair of transport and stores."""

import asyncio
from collections.abc import Callable

import pytest

from bus import Bus, InvalidMessage, Projection, Worker
from bus.common import clock
from bus.delivery.again import Suspects
from bus.delivery.drain import Expired
from bus.failures.deadletters import bury
from bus.signing import RETURNED
from bus.stores.event_log import Recorded
from bus.transports.base import Delivery, Frame, Inbox
from bus.transports.topology import DELIVERY_LIMIT
from tests.service.delivery_contract import WalletService, store_and_publish
from tests.service.wallet import GROUPED, Diary, GetWallet, Paid, Pay, Thank
from tests.waiting import until


class FailureContract(WalletService):
    """Subclasses give one fixture: `settings`, complete and with a database of its own."""

    async def test_a_handlers_failures_are_retried_then_kept(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="fails once"))
        await bus.execute(Pay(wallet_id="b", amount=1, mood="always fails"))
        await bus.execute(Pay(wallet_id="c", amount=1, mood="rejects"))
        await bus.execute(Pay(wallet_id="d", amount=1, mood="outage"))
        letters = await self.dead_letters(bus, 2)
        assert {(one["error"], one["attempts"]) for one in letters} == {
            ("RuntimeError", 3),
            ("Reject", 1),
        }
        assert "wallet.py" in next(one for one in letters if one["error"] == "Reject")["frames"][-1]
        await until(lambda: len(diary.seen) == 2, "a and d are not handled")
        assert set(diary.seen) == {("wallet-a", 1), ("wallet-d", 1)}

    async def test_what_ends_a_process_elsewhere_is_that_messages_failure(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        moods = {
            "exits": "SystemExit",
            "interrupts": "KeyboardInterrupt",
            "closes": "GeneratorExit",
            "storms": "Storm",
        }
        for mood in moods:
            await bus.execute(Pay(wallet_id=mood, amount=1, mood=mood))
        letters = await self.dead_letters(bus, len(moods))
        assert {(one["error"], one["attempts"]) for one in letters} == {
            (error, 3) for error in moods.values()
        }
        await bus.execute(Pay(wallet_id="a", amount=1))
        await until(lambda: ("wallet-a", 1) in diary.seen, "the next one is handled")

    async def test_a_projections_handler_that_exits_parks_its_stream_alone(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="exits"))
        receipt = await bus.execute(Pay(wallet_id="b", amount=2))
        assert await bus.query(GetWallet(wallet_id="b"), after=receipt)
        (target,) = await bus.runtime.targets()
        (parked,) = await until(lambda: bus.runtime.control.parked(target), "it is parked")
        assert (parked.stream, parked.error, parked.reason) == ("wallet-a", "SystemExit", "no more")

    async def test_an_outage_among_the_errors_of_a_projections_handler_holds_the_batch(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        receipt = await bus.execute(Pay(wallet_id="a", amount=1, mood="outage in a group"))
        held = "it holds on to its messages: the other database is away"

        async def told() -> bool:
            return held in [one.what for one in (await bus.health()).problems]

        await until(told, "health says that it holds on")
        diary.mended = True
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt, timeout=20)
        (target,) = await bus.runtime.targets()
        assert await bus.runtime.control.parked(target) == []

    async def test_a_group_of_errors_counts_as_what_is_in_it(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        for mood in GROUPED:
            await bus.execute(Pay(wallet_id=mood, amount=1, mood=mood))
        letters = await self.dead_letters(bus, 2)
        assert {(one["error"], one["reason"], one["attempts"]) for one in letters} == {
            ("Hopeless", "a", 1),
            ("Reject", "never", 1),
        }
        handled = {"later in a group", "outage in a group", "fails in a group"}
        await until(lambda: len(diary.seen) == len(handled), "the others are handled")
        assert {stream for stream, _ in diary.seen} == {f"wallet-{mood}" for mood in handled}

    async def test_time_in_which_another_handler_blocks_the_loop_is_not_ones_own(
        self, make: Callable[..., Bus], diary: Diary
    ) -> None:
        diary.open.clear()
        async with make(time_limit=6.0) as bus, Worker(bus):
            await bus.execute(Pay(wallet_id="a", amount=1))
            await until(lambda: diary.running == 1, "it is being handled, for six seconds at most")
            await bus.execute(Pay(wallet_id="b", amount=1, mood="blocks for long"))
            await until(lambda: diary.running == 2, "the other one has blocked the loop so long")
            diary.open.set()
            both = {("wallet-a", 1), ("wallet-b", 1)}
            await until(lambda: set(diary.seen) == both, "both are handled")
            assert await bus.runtime.control.dead_letters() == []

    async def test_a_message_on_the_delay_ladder_lets_others_pass(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="needs the ladder"))
        await until(lambda: len(diary.tries) == 1, "the first try")
        await bus.execute(Pay(wallet_id="a", amount=1))
        await until(lambda: len(diary.seen) == 2, "both are handled")
        assert diary.seen == [("wallet-a", 2), ("wallet-a", 1)]
        assert sorted(diary.tries.values()) == [1, 3]
        assert await bus.runtime.control.dead_letters() == []

    async def test_a_handler_may_choose_when_it_is_tried_again(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        began = asyncio.get_running_loop().time()
        await bus.execute(Pay(wallet_id="a", amount=1, mood="later"))
        await until(lambda: diary.seen, "it is handled")
        assert asyncio.get_running_loop().time() - began >= 1
        assert list(diary.tries.values()) == [2]

    async def test_each_type_of_error_has_its_own_policy(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="hopeless"))
        await bus.execute(Pay(wallet_id="b", amount=1, mood="hangs"))
        letters = await self.dead_letters(bus, 2)
        assert {one["error"]: one["attempts"] for one in letters} == {
            "Hopeless": 1,
            "TimeoutError": 1,
        }

    async def test_errors_that_are_not_as_they_should_be_are_kept_like_any_other(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        diary.mended = False
        await bus.execute(Pay(wallet_id="a", amount=1, mood="soon"))
        await bus.execute(Pay(wallet_id="b", amount=1, mood="unspeakable"))
        good = await bus.execute(Pay(wallet_id="c", amount=1))
        letters = await self.dead_letters(bus, 2)
        assert {one["error"]: one["attempts"] for one in letters} == {
            "ConfigurationError": 3,
            "Speechless": 3,
        }
        assert await bus.query(GetWallet(wallet_id="c"), after=good, timeout=30)
        (projection,) = (s.of for s in bus.runtime.subscriptions if isinstance(s.of, Projection))

        async def parked() -> list[str]:
            streams = await bus.runtime.control.parked(projection.target())
            return [one.error for one in streams if one.stream == "wallet-b"]

        assert await until(parked, "the stream is parked") == ["Speechless"]

    async def is_in_trouble(self, bus: Bus) -> bool:
        problems = (await bus.health()).problems
        return any("every stream fails" in problem.what for problem in problems)

    async def test_a_projection_of_which_each_stream_gets_on_and_then_fails_is_in_trouble_too(
        self, bus: Bus, diary: Diary
    ) -> None:
        for mood in ("", "unprojectable"):
            for number in range(30):
                await bus.execute(Pay(wallet_id=f"w{number}", amount=1, mood=mood))
        async with Worker(bus, only=["wallets"]):
            await until(lambda: self.is_in_trouble(bus), "health tells of the trouble")

    async def test_some_failing_streams_among_good_ones_are_no_trouble(
        self, bus: Bus, diary: Diary
    ) -> None:
        (projection,) = (s.of for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
        target, control = projection.target(), bus.runtime.control
        for number in range(60):
            mood = "unprojectable" if number % 3 == 0 else ""
            await bus.execute(Pay(wallet_id=f"w{number}", amount=1, mood=mood))

        async def each_failing_one_is_parked() -> bool:
            return len(await control.parked(target)) == 20

        async with Worker(bus, only=["wallets"]):
            await until(each_failing_one_is_parked, "the failing ones are parked")

    async def test_who_gives_a_message_up_tells_of_it_once(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="rejects"), correlation_id="c1")
        await until(lambda: diary.faults, "the fault is told")
        (fault,) = diary.faults
        assert fault.message == "Paid"
        assert fault.subscription == f"{bus.service}.thanking"
        assert (fault.error, fault.reason, fault.attempts) == ("Reject", "never", 1)
        (commit,) = await bus.runtime.event_log.read("wallet-a")
        assert fault.message_id == f"{commit.id}:1"
        (told,) = [c async for c in bus.runtime.event_log.scan([bus.service])]
        assert (told.correlation_id, told.causation_id) == ("c1", fault.message_id)

    async def test_a_fault_tells_what_who_compensates_needs(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1))
        await bus.execute(Pay(wallet_id="a", amount=7, mood="rejects"))
        await bus.send(Thank(wallet_id="nobody's"), id="k1")
        await until(lambda: len(diary.faults) == 2, "both faults are told")
        event, command = sorted(diary.faults, key=lambda one: one.message)
        assert (event.stream, event.version) == ("wallet-a", 2)
        assert event.original(Paid) == Paid(amount=7, mood="rejects")
        assert (command.stream, command.version, command.message_id) == ("", 0, "k1")
        assert command.original(Thank) == Thank(wallet_id="nobody's")
        letters = {one["_id"]: one["message"] for one in await self.dead_letters(bus, 2)}
        assert letters == {event.dead_letter: "Paid", command.dead_letter: "Thank"}

    async def test_a_fault_of_what_the_broker_gave_up_tells_the_same(
        self, bus: Bus, diary: Diary
    ) -> None:
        await bus.send(Pay(wallet_id="a", amount=1), id="k1")
        queue, control = f"{bus.service}.commands", bus.runtime.control
        for _ in range(DELIVERY_LIMIT):
            await Suspects(control, queue).begin("k1")
        inbox = await bus.runtime.transport.inbox(queue, prefetch=1)
        for _ in range(DELIVERY_LIMIT + 1):
            await reject_one(inbox)
        await inbox.close()
        async with Worker(bus):
            await until(lambda: diary.faults, "the fault is told")
        (fault,) = diary.faults
        assert (fault.error, fault.stream, fault.version) == ("DeliveryLimitReached", "", 0)
        assert fault.original(Pay) == Pay(wallet_id="a", amount=1)

    async def test_a_stream_that_is_parked_is_told_by_no_fault_of_the_projections(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await store_and_publish(bus, "wallet-a", Recorded("Paid", 1, {"amount": "much"}))
        (target,) = await bus.runtime.targets()
        await until(lambda: bus.runtime.control.parked(target), "it is parked")
        await until(lambda: diary.faults, "the handler's fault is told")
        (fault,) = diary.faults
        assert fault.subscription == f"{bus.service}.thanking"
        assert (fault.stream, fault.version, fault.data) == ("wallet-a", 1, {"amount": "much"})
        with pytest.raises(InvalidMessage, match="Paid: amount: Input should be"):
            fault.original(Paid)

    async def test_a_fault_that_cannot_be_handled_makes_no_further_fault(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="complains"))
        letters = await self.dead_letters(bus, 2)
        assert {one["message"] for one in letters} == {"Paid", "Fault"}
        await bus.execute(Pay(wallet_id="b", amount=1, mood="rejects"))
        await until(lambda: len(diary.faults) == 2, "the next fault")
        assert [one.message for one in diary.faults] == ["Paid", "Paid"]

    async def test_what_was_given_back_too_often_is_no_failure_and_is_handled(
        self, bus: Bus
    ) -> None:
        """Workers that were stopped, channels that closed: the broker counts them all."""
        await bus.send(Pay(wallet_id="a", amount=1), id="k1")
        inbox = await bus.runtime.transport.inbox(f"{bus.service}.commands", prefetch=1)
        for _ in range(DELIVERY_LIMIT + 1):
            await reject_one(inbox)
        await inbox.close()
        async with Worker(bus):
            await until(lambda: bus.runtime.event_log.find("k1"), "the command is carried out")
        assert await bus.runtime.control.dead_letters() == []

    async def test_a_message_whose_handling_ends_its_worker_each_time_becomes_a_dead_letter(
        self, bus: Bus
    ) -> None:
        queue, control = f"{bus.service}.commands", bus.runtime.control
        for _ in range(DELIVERY_LIMIT):
            await Suspects(control, queue).begin("k1")
        headers: dict[str, str | int] = {"schema": 1, RETURNED: 1}
        body = b'{"wallet_id": "a", "amount": 1}'
        command = Frame("queue", queue, "k1", "Pay", body, clock.now(), "c1", headers)
        assert await bus.runtime.transport.publish([command], must_route=True) == {}
        async with Worker(bus):
            (letter,) = await self.dead_letters(bus, 1)
        assert (letter["message_id"], letter["error"]) == ("k1", "DeliveryLimitReached")
        assert RETURNED not in letter["headers"]
        assert await bus.runtime.event_log.find("k1") == []
        assert await Suspects(control, queue).begin("k1") == 1

    async def test_what_the_broker_took_from_a_projection_is_no_dead_letter_once_it_is_applied(
        self, bus: Bus
    ) -> None:
        queue, control = f"{bus.service}.wallets", bus.runtime.control
        receipt = await bus.execute(Pay(wallet_id="a", amount=1))
        for version in (1, 2):
            headers: dict[str, str | int] = {"stream": "wallet-a", "version": version}
            frame = Frame("", "t", f"e{version}", "Paid", b"{}", clock.now(), "c1", headers)
            given_up = Expired("given up")
            await bury(
                control,
                Delivery(frame, queue, 1, 1),
                given_up,
                handler=queue,
                attempts=0,
                signals=bus.runtime.signals,
            )
        async with Worker(bus):
            await bus.query(GetWallet(wallet_id="a"), after=receipt)

            async def one_is_left() -> bool:
                return [one["message_id"] for one in await control.dead_letters()] == ["e2"]

            await until(one_is_left, "what was applied is no dead letter any more")

    async def test_a_cancellation_that_is_not_the_workers_own_counts_as_a_failure(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        for n in range(10):
            await bus.execute(Pay(wallet_id=f"w{n}", amount=1, mood="cancels"))
        await bus.execute(Pay(wallet_id="good", amount=1))
        letters = await self.dead_letters(bus, 10)
        assert {letter["reason"] for letter in letters} == {
            "something that the handler awaited was cancelled"
        }
        await until(lambda: ("wallet-good", 1) in diary.seen, "the good one is handled")

    async def test_a_projection_that_fails_everywhere_slows_down_instead_of_parking_all(
        self, bus: Bus, diary: Diary
    ) -> None:
        (projection,) = (s.of for s in bus.runtime.subscriptions if isinstance(s.of, Projection))
        target, collections, control = (
            projection.target(),
            bus.runtime.collections,
            bus.runtime.control,
        )
        diary.mended = False
        receipts = [
            await bus.execute(Pay(wallet_id=f"w{n}", amount=1, mood="unprojectable"))
            for n in range(60)
        ]

        async def in_trouble() -> bool:
            return await self.is_in_trouble(bus)

        async def out_of_trouble() -> bool:
            return not await in_trouble()

        async with Worker(bus, only=["wallets"]):
            await until(in_trouble, "health tells of the trouble")
            diary.mended = True
            await until(out_of_trouble, "the trouble is over")
            streams = [stream for receipt in receipts for stream in receipt.versions]

            async def all_applied_or_parked() -> bool:
                reached = await collections.versions(target, streams)
                parked = {one.stream for one in await control.parked(target)}
                assert len(parked) < 30
                return len(reached.keys() | parked) == 60

            await until(all_applied_or_parked, "every stream is applied, or a few are parked")


async def reject_one(inbox: Inbox) -> None:
    (delivery,) = await inbox.take(1)
    await inbox.reject(delivery)
