"""Lineages: which collections a projection has."""

import pytest

from bus.errors import ProjectionError
from bus.read.projection import collection_of
from bus.rebuild.generations import GONE_KEPT, Generation, Lineage, lineage_from


def generation(collection: str, version: int) -> Generation:
    return Generation(collection, version, 1, True)


FIRST, SECOND, AGAIN = (
    generation("balances__v1", 1),
    generation("balances__v2", 2),
    generation("balances__v2r2", 2),
)
SWITCHED = (
    Lineage("balances").begun(FIRST).switched("balances__v1").begun(SECOND).switched("balances__v2")
)


def test_collections_say_which_version_and_run_they_are() -> None:
    named = [collection_of("balances", v, run) for v, run in ((1, 1), (2, 1), (1, 2), (3, 2))]
    assert named == ["balances__v1", "balances__v2", "balances__v1r2", "balances__v3r2"]


def test_a_name_is_not_given_twice_at_a_time() -> None:
    assert SWITCHED.next_collection(2) == "balances__v2r2"
    assert SWITCHED.next_collection(3) == "balances__v3"
    assert SWITCHED.begun(AGAIN).next_collection(2) == "balances__v2r3"


def test_the_first_ones_queues_are_called_as_the_projection_is() -> None:
    assert [one.queue for one in (FIRST, SECOND, AGAIN)] == [
        "balances",
        "balances__v2",
        "balances__v2r2",
    ]


def test_a_first_collection_of_an_earlier_release_keeps_its_queues_to_itself() -> None:
    earlier = generation("balances", 1)
    lineage = Lineage("balances").begun(earlier)
    assert earlier.queue == "balances"
    assert lineage.next_collection(1) == "balances__v1r2"
    assert lineage.begun(SECOND).dropped("balances").next_collection(1) == "balances__v1r2"
    assert Lineage("balances").next_collection(1, left=["balances"]) == "balances__v1r2"


def test_each_version_of_the_code_feeds_its_own() -> None:
    """While a rebuild is on, that is what readers read and what they will read."""
    assert SWITCHED.fed_by(1) == [FIRST]
    assert SWITCHED.fed_by(2) == [SECOND]
    assert SWITCHED.begun(AGAIN).fed_by(2) == [SECOND, AGAIN]
    assert SWITCHED.begun(AGAIN).switched("balances__v2r2").fed_by(2) == [AGAIN]
    assert SWITCHED.fed_by(3) == []


def test_what_is_read_is_in_use_by_whatever_version() -> None:
    building = SWITCHED.begun(generation("balances__v3", 3))
    assert building.in_use(3) == [SECOND, generation("balances__v3", 3)]


def test_readers_go_back_and_forth_between_two() -> None:
    assert (SWITCHED.active, SWITCHED.previous) == ("balances__v2", "balances__v1")
    back = SWITCHED.switched("balances__v1")
    assert (back.active, back.previous, back.building) == ("balances__v1", "balances__v2", "")


def test_a_build_of_another_collection_goes_on_while_readers_move() -> None:
    assert SWITCHED.begun(AGAIN).switched("balances__v1").building == "balances__v2r2"


def test_what_is_read_cannot_be_dropped() -> None:
    with pytest.raises(ProjectionError, match="readers read"):
        SWITCHED.dropped("balances__v2")
    with pytest.raises(ProjectionError, match="has no collection 'others'; it has balances__v1"):
        SWITCHED.dropped("others")
    left = SWITCHED.dropped("balances__v1")
    assert (left.generations, left.previous) == ((SECOND,), "")


def test_what_was_dropped_lately_is_remembered_and_its_name_not_given_again() -> None:
    left = SWITCHED.dropped("balances__v1")
    assert left.gone == (FIRST,)
    assert left.next_collection(1) == "balances__v1r2"
    for version in range(3, 30):
        other = generation(left.next_collection(version), version)
        left = left.begun(other).dropped(other.collection)
    assert len(left.gone) == GONE_KEPT
    assert left.gone[-1] == other


def test_only_the_active_one_is_held_and_only_for_a_time() -> None:
    paused = SWITCHED.paused(100.0)
    assert paused.is_paused(SECOND, 99.0)
    assert not paused.is_paused(FIRST, 99.0)
    assert not paused.is_paused(SECOND, 100.0)
    assert not paused.switched("balances__v1").is_paused(FIRST, 99.0)


@pytest.mark.parametrize(
    "lineage",
    [Lineage("balances"), SWITCHED, SWITCHED.begun(AGAIN).dropped("balances__v1").paused(5.0)],
)
def test_a_lineage_is_kept_as_a_document(lineage: Lineage) -> None:
    assert lineage_from("balances", lineage.document(), 1) == lineage


def test_what_was_there_before_lineages_is_the_first_and_is_read() -> None:
    found = lineage_from("balances", {"versions_in_documents": False}, 4)
    assert found == Lineage("balances", (Generation("balances", 1, 4, False),), "balances")
