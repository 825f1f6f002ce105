"""The report of a flat run: a table for people, JSON for programs."""

from typing import Any

from rich.console import Console
from rich.table import Table

from tools.flat.growth import Growth, cpu_share, growths, types_grown
from tools.flat.run import Watched

UNITS = {"rss_kib": ("memory MiB", 1024.0)}


def figures(watched: Watched) -> dict[str, Any]:
    """Everything by phase, process and quantity; `grows` names what does."""
    phases = {
        phase: {
            name: {
                "cpu_share": round(cpu_share(samples), 4),
                **{quantity: _figures(growth) for quantity, growth in growths(samples).items()},
                "types_grown": types_grown(samples),
            }
            for name, samples in processes.items()
        }
        for phase, processes in watched.samples.items()
    }
    return {
        "minutes": watched.plan.minutes,
        "idle_minutes": watched.plan.idle,
        "commands": watched.commands,
        "commands_per_second": round(watched.commands / max(watched.seconds, 1e-9), 1),
        "failed": dict(watched.failed),
        "slowest_s": round(watched.slowest, 2),
        "phases": phases,
        "grows": grows(watched),
    }


def _figures(growth: Growth) -> dict[str, Any]:
    return {
        "first": growth.first,
        "last": growth.last,
        "per_hour": round(growth.per_hour, 1),
        "grows": growth.grows,
    }


def grows(watched: Watched) -> list[str]:
    """What grew, in words, and what else was wrong."""
    found = [
        f"{phase}: {quantity} of the {name} grew from {growth.first:,.0f} to {growth.last:,.0f}"
        for phase, processes in watched.samples.items()
        for name, samples in processes.items()
        for quantity, growth in growths(samples).items()
        if growth.grows
    ]
    return [*found, *watched.ended]


def print_report(watched: Watched, console: Console) -> None:
    """A row for each phase, process and quantity."""
    table = Table("phase", "process", "", "first", "last", "per hour", box=None)
    for phase, processes in watched.samples.items():
        for name, samples in processes.items():
            table.add_row(phase, name, "share of a core", "", f"{cpu_share(samples):.3f}", "")
            for quantity, growth in growths(samples).items():
                called, unit = UNITS.get(quantity, (quantity, 1.0))
                row = (f"{value / unit:,.1f}" for value in growth[:3])
                table.add_row(phase, name, called, *row, style="red" if growth.grows else "")
    console.print(table)
    console.print(
        f"{watched.commands:,} commands, {watched.commands / max(watched.seconds, 1e-9):,.0f} a "
        f"second; the slowest took {watched.slowest:.2f} s; failed: {watched.failed.total()}",
        highlight=False,
    )
    for one in grows(watched):
        console.print(f"  {one}", markup=False, highlight=False, style="red")
    console.print("Nothing grows." if not grows(watched) else "Something grows.")
