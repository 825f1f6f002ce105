"""What poison costs the good messages around it."""

from bench.poison import measure

BENCHMARK = measure
