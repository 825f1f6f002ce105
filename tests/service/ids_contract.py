"""What an id stands for: one message, and what followed from it."""

import asyncio
import hashlib

import pytest

from bus import Bus, DeadLetters, IdConflict, InvalidMessage, Worker
from bus.common import clock
from bus.data.ids import derived_id, former_derived_id
from bus.data.limits import DERIVED
from bus.stores.event_log import Commit, Outgoing
from tests.service.delivery_contract import WalletService
from tests.service.wallet import Diary, GetWallet, Paid, Pay, Thank
from tests.waiting import until


class IdsContract(WalletService):
    """Commands whose id was used, and ids that derive from a message and its handler."""

    async def test_a_repeated_id_with_other_content_is_refused_and_changes_nothing(
        self, bus: Bus
    ) -> None:
        first = await bus.execute(Pay(wallet_id="a", amount=3), id="k")
        with pytest.raises(IdConflict, match="the id k was used before, by another Pay"):
            await bus.execute(Pay(wallet_id="b", amount=3), id="k")
        with pytest.raises(IdConflict, match="was used before, by Pay, and now by Thank"):
            await bus.execute(Thank(wallet_id="a"), id="k")
        assert await bus.execute(Pay(wallet_id="a", amount=3), id="k") == first
        assert await bus.runtime.event_log.read("wallet-b") == []

    async def test_commands_at_the_same_time_under_one_id_are_carried_out_or_refused(
        self, bus: Bus
    ) -> None:
        commands = [Pay(wallet_id=name, amount=1) for name in "abab"]
        found = await asyncio.gather(
            *(bus.execute(one, id="k") for one in commands), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in found) == ["IdConflict"] * 2 + ["Receipt"] * 2
        streams = [await bus.runtime.event_log.read(f"wallet-{name}") for name in "ab"]
        assert sorted(map(len, streams)) == [0, 1]

    async def test_a_command_stored_by_a_release_without_digests_is_not_compared(
        self, bus: Bus
    ) -> None:
        first = await bus.execute(Pay(wallet_id="a", amount=3), id="k")
        (commit,) = await bus.runtime.event_log.find("k")
        former = commit._replace(id="old", digest="", causation_id="old", first=2)
        await bus.runtime.event_log.append([former])
        again = await bus.execute(Pay(wallet_id="z", amount=9), id="old")
        assert again.result == first.result

    async def test_of_two_queued_commands_of_one_id_the_second_is_a_dead_letter_that_says_so(
        self, bus: Bus, worker: Worker
    ) -> None:
        await bus.send(Pay(wallet_id="a", amount=3), id="k")
        await bus.request(Pay(wallet_id="a", amount=3), id="k")
        await bus.send(Pay(wallet_id="b", amount=3), id="k")
        (letter,) = await self.dead_letters(bus, 1)
        assert (letter["error"], letter["attempts"]) == ("IdConflict", 1)
        assert "was used before, by another Pay" in letter["reason"]

    async def test_a_requester_gets_the_conflict_as_itself(self, bus: Bus, worker: Worker) -> None:
        await bus.request(Pay(wallet_id="a", amount=3), id="k")
        with pytest.raises(IdConflict, match="was used before, by another Pay"):
            await bus.request(Pay(wallet_id="a", amount=4), id="k")

    async def test_a_published_fact_is_compared_too(self, bus: Bus) -> None:
        await bus.publish(Paid(amount=1), id="fact")
        await bus.publish(Paid(amount=1), id="fact")
        with pytest.raises(IdConflict):
            await bus.publish(Paid(amount=2), id="fact")

    @pytest.mark.parametrize("id", [f"{DERIVED}x", derived_id("anything")])
    async def test_no_user_can_name_an_id_of_the_bus_own(self, bus: Bus, id: str) -> None:
        command = Pay(wallet_id="a", amount=1)
        for call in (bus.execute, bus.send, bus.request):
            with pytest.raises(InvalidMessage, match="as the bus's own do"):
                await call(command, id=id)

    async def test_no_command_of_a_user_switches_a_handler_off(
        self, bus: Bus, diary: Diary
    ) -> None:
        """Under the ids that could be computed and named before, and under those of today, where
        somebody wrote them past the bus."""
        paid = await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"), id="c")
        seed = f"c:1>{bus.service}.thanking"
        await bus.execute(Pay(wallet_id="x", amount=1), id=former_derived_id(seed))
        await bus.execute(
            Pay(wallet_id="y", amount=1), id=former_derived_id(f"{former_derived_id(seed)}>1")
        )
        async with Worker(bus):
            await until(lambda: ("wallet-a", 1) in diary.seen, "the handler runs")

            async def thanked() -> bool:
                found = await bus.query(GetWallet(wallet_id="a"), after=paid)
                return found is not None and found.thanks == 1

            await until(thanked, "what the handler sent is carried out")

    async def test_what_stands_under_a_derived_id_and_has_another_cause_is_told(
        self, bus: Bus, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"), id="c")
        id = derived_id(f"c:1>{bus.service}.thanking")
        await bus.runtime.event_log.append([handled(bus, id, "another")])
        async with Worker(bus):
            (letter,) = await self.dead_letters(bus, 1)
        assert letter["error"] == "IdConflict"
        assert "what followed from another" in letter["reason"]

    async def test_what_a_release_before_did_under_its_ids_is_not_done_again(
        self, bus: Bus, diary: Diary
    ) -> None:
        await bus.execute(Pay(wallet_id="a", amount=1, mood="grateful"), id="c")
        former = former_derived_id(f"c:1>{bus.service}.thanking")
        assert (
            former
            == hashlib.blake2s(f"c:1>{bus.service}.thanking".encode(), digest_size=16).hexdigest()
        )
        await bus.runtime.event_log.append([handled(bus, former, "c:1")])
        async with Worker(bus):
            await until(lambda: ("wallet-a", 1) in diary.seen, "it is delivered again")
            receipt = await bus.execute(Pay(wallet_id="b", amount=1))
            assert await bus.query(GetWallet(wallet_id="b"), after=receipt)
        assert await bus.runtime.event_log.find(derived_id(f"c:1>{bus.service}.thanking")) == []
        assert await DeadLetters(bus).list() == []


def handled(bus: Bus, id: str, cause: str) -> Commit:
    """What the thanking handler stores, under an id and for a cause."""
    thank = Outgoing(f"{id}1", "Thank", 1, {"wallet_id": "a"})
    stream = f"{bus.service}-{id}"
    return Commit(
        id, stream, bus.service, 1, (), clock.now(), "c", cause, outgoing=(thank,), message="Paid"
    )
