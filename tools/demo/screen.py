"""The screen: one line for each stage, and a bar with live figures. On standard error."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tools.demo.tally import Tally, percentile

REFRESH = 0.2
RECENT = 200


class Screen:
    """What a person sees while the demo runs; without a terminal, the stages only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def stage(self, text: str) -> None:
        self.console.print(text, style="dim", highlight=False)

    @contextmanager
    def bar(self, total: int) -> Iterator["Bar"]:
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with progress:
            yield Bar(progress, total)


class Bar:
    """A progress bar that follows a tally."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("commands", total=total, figures="")

    async def follow(self, tally: Tally) -> None:
        """Shows the tally until cancelled."""
        while True:
            self.show(tally)
            await asyncio.sleep(REFRESH)

    def show(self, tally: Tally) -> None:
        visible = percentile(tally.latencies[-RECENT:], 50) * 1000
        figures = (
            f"{tally.per_second:,.0f}/s · {tally.refused.total():,} refused · "
            f"visible after {visible:.0f} ms"
        )
        self._progress.update(self._task, completed=tally.commands, figures=figures)
