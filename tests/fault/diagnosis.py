"""What tests of the doctor share: asking it, and looking for a finding."""

from bus import Bus
from bus.observe.health import Finding
from bus.operate.doctor.doctor import Doctor
from bus.operate.doctor.patient import SILENT

ALWAYS = ("1 node(s)", "has 1 member(s)")
"""What is said of each server that the tests run on: one node alone, of RabbitMQ and of MongoDB."""


async def amiss(bus: Bus, *only: str, consumer_timeout: float | None = None) -> list[Finding]:
    """What is not as it should be, but for what the servers of these tests are. A server that did
    not answer is asked again: it may have been late on a busy machine."""
    for _ in range(3):
        found = await Doctor(bus).examine(only, consumer_timeout=consumer_timeout)
        if not any(SILENT in finding.remedy for finding in found):
            break
    assert found
    return [
        finding
        for finding in found
        if finding.level != "ok" and not any(words in finding.what for words in ALWAYS)
    ]


def one(found: list[Finding], part: str, words: str) -> Finding:
    """The one finding of a part with these words; it has a remedy."""
    (finding,) = [one for one in found if one.part == part and words in one.what]
    assert finding.remedy
    return finding
