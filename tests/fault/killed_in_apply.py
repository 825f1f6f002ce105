"""`bus topology apply` on the real services, killed before a step. Arguments: the step, the how
manieth of its kind it is, then OLD=NEW for each router that was renamed. Prints its steps.

A step is a call to the broker that changes something there, or takes or brings a message, as in
`queue_delete wallets.mail`.
"""

import os
import sys
from collections import Counter
from typing import Any

from aiormq.channel import Channel

from bus import Bus, Settings
from bus.cli.main import app
from bus.transports.rabbitmq.moving import draining
from tests import killing
from tests.fault import renamed
from tests.service import wallet

METHODS = (
    "queue_declare",
    "queue_bind",
    "queue_unbind",
    "queue_delete",
    "basic_consume",
    "basic_publish",
    "basic_ack",
    "basic_cancel",
)


def build(settings: Settings) -> Bus:
    service, *pairs = os.environ["TEST_APPLIED"].split()
    if not pairs:
        return wallet.build(settings, wallet.Diary(), service)
    now = dict(pair.split("=") for pair in pairs)
    return renamed.build(settings, service, tallies=now["tallies"], echoes=now["echoes"])


class Steps:
    """Ends the process before a step."""

    def __init__(self, last: str, time: int) -> None:
        self._last = last
        self._time = time
        self._taken: Counter[str] = Counter()

    def counted(self, method: str) -> Any:
        call = getattr(Channel, method)

        def step(channel: Any, *given: Any, **named: Any) -> Any:
            if not named.get("passive"):
                self._take(f"{method} {_where(given, named)}".strip())
            return call(channel, *given, **named)

        return step

    def _take(self, step: str) -> None:
        print(step, flush=True)
        self._taken[step] += 1
        if step == self._last and self._taken[step] == self._time:
            killing.die()


def _where(given: Any, named: Any) -> str:
    """Returns the queue that a call is about, or that a message goes to."""
    first = given[0] if given and isinstance(given[0], str) else ""
    return str(first or named.get("routing_key") or named.get("queue") or "")


if __name__ == "__main__":
    draining.SILENCE = 0.1
    last, time, *renames = sys.argv[1:]
    steps = Steps(last, int(time))
    for name in METHODS:
        setattr(Channel, name, steps.counted(name))
    words = [word for pair in renames for word in ("--rename", pair)]
    app(["topology", "apply", "tests.fault.killed_in_apply:build", *words])
