"""What fault tests share: how a recovery is measured, told and held to its bound."""

from collections.abc import Callable

import pytest

Recovered = Callable[[str, float, float], None]


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Recovered:
    """Notes how long a recovery took (seconds), and fails where it took longer than its bound."""

    def note(fault: str, seconds: float, bound: float) -> None:
        record_property(f"recovery_s: {fault}", round(seconds, 2))
        print(f"recovered from {fault} in {seconds:.2f} s")
        assert seconds <= bound, f"{fault}: recovered in {seconds:.2f} s, not within {bound} s"

    return note
