"""What a service believes of the events that arrive as its own: what its log holds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from bus import Bus, DeadLetters, Receipt, Settings, Worker
from bus.assembly.runtime import Runtime
from bus.codec import event_frames
from bus.common import clock
from bus.delivery.trust import LETTERS
from bus.failures.give_up import UNREAD
from bus.signing import EPOCH_NOTE, SIGNATURE, new_epoch
from bus.stores.control import Note
from bus.stores.event_log import Commit, Recorded
from bus.transports.base import Frame
from bus.transports.topology import COMMAND_TOPIC
from tests.service.delivery_contract import WalletService, stray
from tests.service.wallet import Diary, GetWallet, Pay, WalletView
from tests.waiting import until


class Other(NamedTuple):
    """An open bus, as a worker with other parts sees it."""

    runtime: Runtime


class TrustContract(WalletService):
    """Frames that somebody publishes who may, but is no process of this service."""

    async def problems(self, bus: Bus) -> list[str]:
        return [one.what for one in (await bus.health()).problems if one.part == "events"]

    async def test_a_forged_next_version_is_not_applied_and_the_true_one_is(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
        await bus.runtime.transport.publish(
            [stray(b'{"amount":1000}', stream="wallet-a", version=2)]
        )
        await self.refused(bus, 2)
        receipt = await bus.execute(Pay(wallet_id="a", amount=4))
        found = await bus.query(GetWallet(wallet_id="a"), after=receipt)
        assert found == WalletView(id="a", total=7)
        await until(lambda: ("wallet-a", 2) in diary.seen, "the true event is handled")
        assert diary.seen == [("wallet-a", 1), ("wallet-a", 2)]

    async def test_a_forged_first_version_makes_no_document_and_runs_no_handler(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        body = b'{"amount":1,"mood":"grateful"}'
        await bus.runtime.transport.publish([stray(body, stream="wallet-phantom")])
        await self.refused(bus, 2)
        assert await bus.query(GetWallet(wallet_id="phantom")) is None
        assert (diary.seen, diary.tries) == ([], {})
        assert [one async for one in bus.runtime.event_log.scan([bus.service, "wallet"])] == []

    async def test_what_is_refused_is_kept_told_and_makes_no_fault(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        assert await self.problems(bus) == []
        await bus.runtime.transport.publish([stray(b'{"amount":1}'), stray(b"torn")])
        letters = await self.refused(bus, 4)
        assert {one.error for one in letters} == {"NotInTheLog", "InvalidMessage"}
        (problem,) = await self.problems(bus)
        assert "4 messages were refused" in problem
        assert f"{bus.service}.events" in problem
        assert diary.faults == []

    async def test_a_flood_makes_a_bounded_number_of_letters_and_one_that_counts_the_rest(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        flood = [stray(b"torn", stream=f"wallet-f{n}", version=n % 9 + 2) for n in range(900)]
        await bus.runtime.transport.publish(flood)
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
        letters = await self.refused(bus, 2 * 900)
        assert len(letters) == 2 * (LETTERS + 1)
        counted = [one for one in letters if one.seen > 1]
        assert [one.seen for one in counted] == [900 - LETTERS] * 2
        assert {one.id for one in counted} == {
            f"{bus.service}.wallets/the rest",
            f"{bus.service}.thanking/the rest",
        }
        assert [one async for one in bus.runtime.event_log.scan([bus.service])] == []
        assert (await bus.health()).ready

    async def test_forged_gaps_do_not_stop_a_projection(self, bus: Bus, worker: Worker) -> None:
        forged = [stray(b'{"amount":1}', stream=f"wallet-g{n}", version=7) for n in range(50)]
        await bus.runtime.transport.publish(forged)
        receipt = await bus.execute(Pay(wallet_id="a", amount=3))
        assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
        (target,) = await bus.runtime.targets()
        assert await bus.runtime.control.parked(target) == []

    async def test_another_categorys_stream_is_refused_though_its_topic_is_ours(
        self, bus: Bus, worker: Worker
    ) -> None:
        forged = stray(b'{"amount":1}', stream="purse-a")
        assert forged.topic.startswith("wallet.")
        await bus.runtime.transport.publish([forged])
        await self.refused(bus, 2)
        (target,) = await bus.runtime.targets()
        assert await bus.runtime.collections.versions(target, ["purse-a"]) == {}

    async def test_a_true_event_by_the_topic_of_another_category_is_refused(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        commit = stored("purse-a")
        await bus.runtime.event_log.append([commit])
        (frame,) = event_frames(commit, bus.runtime.signing.sign)
        topic = frame.topic.replace("purse", "wallet")
        await bus.runtime.transport.publish([frame._replace(topic=topic)])
        await self.refused(bus, 2)
        assert diary.seen == []

    @pytest.mark.parametrize("claim", ["", "of another key"])
    async def test_an_event_of_the_log_without_a_valid_signature_is_applied_from_the_log(
        self, bus: Bus, worker: Worker, diary: Diary, claim: str
    ) -> None:
        """As a release publishes it that does not sign; or one in an earlier epoch."""
        commit = stored("wallet-a")
        await bus.runtime.event_log.append([commit])
        (frame,) = event_frames(commit)
        headers = {**frame.headers, **({SIGNATURE: f"e.{claim}"} if claim else {})}
        lie = frame._replace(body=b'{"amount":1000}', headers=headers)
        await bus.runtime.transport.publish([lie])
        found = await bus.query(GetWallet(wallet_id="a"), after=Receipt("", {"wallet-a": 1}))
        assert found == WalletView(id="a", total=5)
        await until(lambda: diary.seen == [("wallet-a", 1)], "it is handled")
        assert await DeadLetters(bus).list() == []

    async def test_a_new_epoch_is_learned_from_the_events_of_others(
        self, make: Callable[[], Bus], diary: Diary
    ) -> None:
        async with make() as bus, Worker(bus):
            before = bus.runtime.signing.epoch
            control = bus.runtime.control
            note = await control.note(EPOCH_NOTE)
            assert await control.write_note(Note(EPOCH_NOTE, new_epoch(), note.revision))
            receipt = await bus.execute(Pay(wallet_id="a", amount=3))  # signed in the former one
            assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
            commit = stored("wallet-b")
            await bus.runtime.event_log.append([commit])
            signing = type(bus.runtime.signing)(control)
            await signing.open()
            await bus.runtime.transport.publish(event_frames(commit, signing.sign))
            assert await bus.query(GetWallet(wallet_id="b"), after=Receipt("", {"wallet-b": 1}))
            await until(lambda: len(diary.seen) == 2, "both are handled")
            assert bus.runtime.signing.epoch == signing.epoch != before

    async def test_who_checks_each_event_by_the_log_does_not_believe_signatures(
        self, settings: Settings, make: Callable[[], Bus], diary: Diary
    ) -> None:
        async with make() as bus:
            checking = bus.runtime.settings.model_copy(update={"check_events": "log"})
            async with Worker(Other(bus.runtime._replace(settings=checking))):
                commit = stored("purse-a")  # else the log would seem to have lost it
                await bus.runtime.event_log.append([commit])
                forged = stray(b'{"amount":1}', stream="wallet-phantom")
                forged = forged._replace(id=commit.event_id(0))
                signature = bus.runtime.signing.sign(forged)
                signed = forged._replace(headers={**forged.headers, SIGNATURE: signature})
                await bus.runtime.transport.publish([signed])
                await self.refused(bus, 2)
                receipt = await bus.execute(Pay(wallet_id="a", amount=3))
                assert await bus.query(GetWallet(wallet_id="a"), after=receipt)
                await until(lambda: diary.seen == [("wallet-a", 1)], "the true one is handled")

    async def test_no_frame_removes_the_letter_of_another_message(
        self, bus: Bus, worker: Worker, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="rejects"))
        (letter,) = await self.refused(bus, 1)
        receipt = await bus.execute(Pay(wallet_id="b", amount=1))
        (commit,) = await bus.runtime.event_log.read("wallet-b")
        (frame,) = event_frames(commit, bus.runtime.signing.sign)
        headers = {**frame.headers, "dead-letter": letter.id}
        await bus.runtime.transport.publish([frame._replace(headers=headers)])
        await until(lambda: len(diary.seen) >= 2, "the copy is handled too")
        assert await bus.query(GetWallet(wallet_id="b"), after=receipt)
        assert [one.id for one in await DeadLetters(bus).list()] == [letter.id]

    async def test_commands_that_nobody_can_read_make_a_bounded_number_of_letters(
        self, bus: Bus, worker: Worker
    ) -> None:
        await bus.runtime.transport.publish(
            [_command("Pay", b"torn") for _ in range(UNREAD + 50)], must_route=True
        )
        letters = await self.refused(bus, UNREAD + 50)
        assert len(letters) == UNREAD + 1
        assert [one.seen for one in letters if one.seen > 1] == [50]
        faults = [one async for one in bus.runtime.event_log.scan([bus.service])]
        assert len(faults) <= UNREAD

    async def test_commands_that_fail_are_all_kept(self, bus: Bus, worker: Worker) -> None:
        body = b'{"wallet_id":"nobody"}'
        await bus.runtime.transport.publish(
            [_command("Thank", body) for _ in range(UNREAD + 20)], must_route=True
        )
        letters = await self.refused(bus, UNREAD + 20)
        assert len(letters) == UNREAD + 20

    async def test_commands_that_no_release_knows_wait_where_too_many_are_letters(
        self, make: Callable[[], Bus]
    ) -> None:
        """They may be of a release to come: none is lost."""
        async with make() as bus:
            settings = bus.runtime.settings.model_copy(update={"release_within": 0})
            async with Worker(Other(bus.runtime._replace(settings=settings))):
                await bus.runtime.transport.publish(
                    [_command("Unheard", b"{}") for _ in range(UNREAD + 20)], must_route=True
                )
                await bus.send(Pay(wallet_id="a", amount=3))
                await until(lambda: self._is_there(bus), "what came after them is carried out")
                letters = await self.refused(bus, UNREAD)
                assert [one.seen for one in letters] == [1] * UNREAD

    async def _is_there(self, bus: Bus) -> bool:
        return await bus.query(GetWallet(wallet_id="a")) is not None

    async def refused(self, bus: Bus, count: int) -> list[Any]:
        """The dead letters, as soon as so many messages were given up."""
        letters = DeadLetters(bus)

        async def enough() -> list[Any]:
            found = [one for one in await letters.list(limit=1000) if one.kind == "message"]
            return found if sum(one.seen for one in found) >= count else []

        return await until(enough, f"{count} messages are refused")  # type: ignore[no-any-return]


def _command(name: str, body: bytes) -> Frame:
    """A command as somebody might publish it."""
    id = clock.new_id()
    return Frame("commands", COMMAND_TOPIC, id, name, body, clock.now(), id, {"schema": 1})


def stored(stream: str) -> Commit:
    """A commit as a process of the service would store it."""
    id = clock.new_id()
    event = Recorded("Paid", 1, {"amount": 5, "mood": ""})
    return Commit(id, stream, stream.partition("-")[0], 1, (event,), clock.now(), id)
