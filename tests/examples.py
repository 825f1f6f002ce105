"""How often a property is tried: less by `bin/test unit`, for which somebody waits."""

from hypothesis import settings

settings.register_profile("quick", max_examples=20)


def hundreds(number: float) -> int:
    """So many hundred examples, or that share of what the profile gives."""
    return round(number * settings().max_examples)
