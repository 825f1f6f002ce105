"""One line of a plan: a difference between what is declared and what was found. No I/O."""

from typing import Any, Literal, NamedTuple

Sign = Literal["+", "~", "-", "!", "?"]
MAKE: Sign = "+"
CHANGE: Sign = "~"
PRUNE: Sign = "-"
CORRECT: Sign = "!"
UNSEEN: Sign = "?"


class Change(NamedTuple):
    """A difference. By `sign`:

    `+` is missing, and `apply` makes it; `~` is not as declared; `-` nobody declares, and `prune`
    removes it; `!` is set at the broker, and its operator corrects it; `?` could not be looked at.

    `kind` is "queue", "exchange", "binding", "partitions", "policy" or "timeout". `was` and
    `should` hold what differs. `messages` counts those in the queue. With `is_warning`, nothing is
    lost by it.
    """

    sign: Sign
    kind: str
    name: str
    why: str
    remedy: str
    was: Any = None
    should: Any = None
    messages: int = 0
    is_warning: bool = False
