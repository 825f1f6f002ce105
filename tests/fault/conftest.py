"""What fault tests share: how a recovery is measured, told and held to its bound."""

from collections.abc import Callable

import pytest

from tests.waiting import patience

Recovered = Callable[[str, float, float], None]


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Recovered:
    """Notes how long a recovery took (seconds), and fails where it took longer than its bound,
    which is one for an idle machine."""

    def note(fault: str, seconds: float, bound: float) -> None:
        record_property(f"recovery_s: {fault}", round(seconds, 2))
        print(f"recovered from {fault} in {seconds:.2f} s")
        most = bound * patience()
        assert seconds <= most, f"{fault}: recovered in {seconds:.2f} s, not within {most:.2f} s"

    return note
