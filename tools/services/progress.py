"""The lines that tell a waiting person what is happening, apart from a command's own output."""

import sys


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
