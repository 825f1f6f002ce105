"""The screen: one line for each stage, and a bar with live figures. On standard error."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

RECENT = 10.0


class Screen:
    """What a person sees while the soak runs; without a terminal, the stages only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def stage(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False)

    @contextmanager
    def bar(self, seconds: float) -> Iterator["Bar"]:
        progress = Progress(
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with progress:
            yield Bar(progress, seconds)


class Bar:
    """A bar for the time under load, with the rate and the latest fault."""

    def __init__(self, progress: Progress, seconds: float) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=seconds, figures="")
        self._began = time.monotonic()
        self._counts: deque[tuple[float, int]] = deque()

    def show(self, accepted: int, faults: int, latest: str) -> None:
        now = time.monotonic()
        self._counts.append((now, accepted))
        while now - self._counts[0][0] > RECENT:
            self._counts.popleft()
        then, before = self._counts[0]
        rate = (accepted - before) / max(now - then, 1.0)
        figures = f"{accepted:,} commands · {rate:,.0f}/s · {faults:,} faults · {latest}"
        self._progress.update(self._task, completed=now - self._began, figures=figures)
