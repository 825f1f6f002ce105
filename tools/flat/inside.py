"""Runs a module while a thread counts what it holds: `python -m tools.flat.inside FILE SECONDS
MODULE ARGUMENTS...`; a line of JSON every so many seconds.

Each count follows a full garbage collection, so that only what is held is counted. It takes as long
as the process has objects: some tenths of a second on a small machine.
"""

import faulthandler
import gc
import json
import runpy
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_TYPES = 60
LONGEST = 10.0
"""Seconds for which others let a count go on, far more than it takes. Not for ever: some versions
of glibc can lose the waking of one who waits, who then looks again after this time."""
REST = 5
"""Times as long as a count took it rests at least, so that a busy machine gets on between them."""
TASKS = frozenset({"Task"})


def main() -> None:
    faulthandler.enable()  # SIGABRT has it say what each of its threads does
    file, seconds, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    counting = threading.Thread(
        target=_count, args=(Path(file), float(seconds)), name="counting", daemon=True
    )
    counting.start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _count(file: Path, seconds: float) -> None:
    with file.open("a", buffering=1) as lines:
        while True:
            began = time.monotonic()
            with undisturbed():
                found = counted()
            lines.write(json.dumps(found) + "\n")
            time.sleep(max(seconds, (time.monotonic() - began) * REST))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Lets no other thread run meanwhile, and begins only once they wait for something.

    Whoever counts holds all objects for a moment: a tuple that another thread is building then
    cannot be resized, which ended requests in a SystemError.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(LONGEST)
    try:
        time.sleep(0.01)
        yield
    finally:
        sys.setswitchinterval(before)


def counted() -> dict[str, Any]:
    """How many objects, by type, and how many tasks that have not ended."""
    gc.collect()
    tasks = 0
    types: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        types[f"{kind.__module__}.{kind.__qualname__}"] += 1
        if kind.__name__ in TASKS:
            tasks += not one.done()
    return {
        "time": time.time(),
        "objects": types.total(),
        "tasks": tasks,
        "types": dict(types.most_common(MOST_TYPES)),
    }


if __name__ == "__main__":
    main()
